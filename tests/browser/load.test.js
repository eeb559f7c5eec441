// 10,000 phones and 100,000 messages: the time to the first paint, to the rows and of a click, rows in the document, memory. The figures are
// printed.
//
// They are of the binary that is tested: scripts/test-browser builds it without optimization.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open, row } from "./support/browser.js";
import { eventually, memoryMib, Simulator, stopAll } from "./support/processes.js";

const PHONES = 10_000;
const MESSAGES_EACH = 10;
const BULK = 1000;
const FIRST_PAINT_MS = 1000;
const LIST_MS = 2000;
const CLICK_MS = 100;
const MAX_ELEMENTS = 3000;
let browser;
let simulator;

const number = (index) => `4479${String(10_000_000 + index)}`;

before(async () => {
  browser = await launch(["--enable-precise-memory-info"]);
  simulator = await Simulator.start();
  const empty = await simulator.memoryMib();
  const began = Date.now();
  for (let round = 0; round < MESSAGES_EACH; round += 1) {
    for (let first = 0; first < PHONES; first += BULK) {
      const destinations = Array.from({ length: BULK }, (_, index) => ({ to: number(first + index) }));
      await simulator.send("/sms/1/text/advanced", {
        messages: [{ from: "InfoSMS", destinations, text: `Round ${round}: your order is on its way` }],
      });
    }
  }
  console.log(
    `${PHONES * MESSAGES_EACH} messages to ${PHONES} phones sent in ${Date.now() - began} ms;`,
    `simulator: ${empty} MiB before, ${await simulator.memoryMib()} MiB after`,
  );
});

after(async () => {
  await browser?.close();
  await stopAll();
});

const percentile = (values, part) =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))];

/** The resident memory of the processes that draw pages, in MiB. */
async function renderersMib() {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  const sizes = await Promise.all(processInfo.filter(({ type }) => type === "renderer").map(({ id }) => memoryMib(id)));
  return Math.max(...sizes);
}

/** Clicks a row, and returns the milliseconds until the conversation is painted; null if the row is not in sight. */
function timedClick(page, wanted) {
  return page.evaluate(
    (text) =>
      new Promise((resolve, reject) => {
        const target = [...document.querySelectorAll(".row")].find((candidate) => candidate.textContent.includes(text));
        if (!target) return resolve(null);
        const began = performance.now();
        const giveUp = setTimeout(() => reject(new Error(`no conversation of ${text}`)), 10_000);
        const look = () => {
          const shown =
            document.querySelector(".phone-head h1")?.textContent === text && document.querySelectorAll(".bubble").length >= 10;
          if (!shown) return requestAnimationFrame(look);
          clearTimeout(giveUp);
          // The next frame has it on the screen.
          return requestAnimationFrame(() => resolve(performance.now() - began));
        };
        target.click();
        look();
      }),
    wanted,
  );
}

test("the first paint takes less than a second, a click less than 100 ms, and the document stays small", async () => {
  const paints = [];
  const lists = [];
  for (let visit = 0; visit < 5; visit += 1) {
    const { page, close } = await open(browser, simulator);
    await page.getByRole("option").nth(5).waitFor();
    const [paint, list] = await page.evaluate(() => [
      performance.getEntriesByName("first-contentful-paint")[0].startTime,
      performance.now(),
    ]);
    paints.push(paint);
    lists.push(list);
    await close();
  }
  const { page, close } = await open(browser, simulator);
  await row(page, number(PHONES - 1)).waitFor();
  assert.equal(await page.locator(".list-foot p").textContent(), "10,000 phones");
  const clicks = [];
  const shown = await page.locator(".row-number").allTextContents();
  for (let round = 0; round < 5; round += 1) for (const wanted of shown.slice(0, 8)) clicks.push(await timedClick(page, wanted));

  // To the end of what is loaded, many times: the document must not grow.
  await page.getByRole("listbox").focus();
  for (let step = 0; step < 30; step += 1) await page.keyboard.press("End");
  const elements = await page.evaluate(() => document.querySelectorAll("*").length);
  const rows = await page.locator(".row").count();
  const heap = await page.evaluate(() => Math.round(performance.memory.usedJSHeapSize / 2 ** 20));
  const ms = (value) => value.toFixed(0);
  console.log(
    `first paint: ${paints.map(ms).join(", ")} ms; rows of the list seen after: ${lists.map(ms).join(", ")} ms (upper bounds)`,
  );
  console.log(
    `click to painted conversation: median ${ms(percentile(clicks, 0.5))} ms, 95 %: ${ms(percentile(clicks, 0.95))} ms,`,
    `worst of ${clicks.length}: ${ms(Math.max(...clicks))} ms`,
  );
  console.log(
    `after scrolling: ${rows} rows, ${elements} elements in the document, JavaScript heap ${heap} MiB,`,
    `process of the tab ${await renderersMib()} MiB, simulator ${await simulator.memoryMib()} MiB`,
  );
  assert.ok(percentile(paints, 0.5) < FIRST_PAINT_MS, `first paint: ${paints}`);
  assert.ok(percentile(lists, 0.5) < LIST_MS, `rows of the list: ${lists}`);
  assert.ok(percentile(clicks, 0.5) < CLICK_MS, `clicks: ${clicks}`);
  assert.ok(rows <= 130 && elements < MAX_ELEMENTS, `${rows} rows, ${elements} elements`);
  await close();
});

test("while hundreds of messages a second arrive, the page follows and the median click stays below 100 ms", async () => {
  const { page, close } = await open(browser, simulator);
  await row(page, number(PHONES - 1)).waitFor();
  let sending = true;
  let sent = 0;
  const sender = (async () => {
    while (sending) {
      const destinations = Array.from({ length: 50 }, (_, index) => ({ to: number((sent + index) % PHONES) }));
      await simulator.send("/sms/1/text/advanced", { messages: [{ from: "Live", destinations, text: `Live ${sent}` }] });
      sent += 50;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  try {
    await page.getByRole("option").filter({ hasText: "Live" }).first().waitFor();
    const clicks = [];
    for (let round = 0; round < 20; round += 1) {
      const wanted = await page
        .locator(".row-number")
        .nth(round % 8)
        .textContent();
      // A row that others have pushed out of sight meanwhile is not clicked.
      const took = await timedClick(page, wanted);
      if (took !== null) clicks.push(took);
    }
    assert.ok(clicks.length > 5, String(clicks));
    console.log(
      `while ${sent} messages arrived: click median ${percentile(clicks, 0.5).toFixed(0)} ms, 95 %: ${percentile(clicks, 0.95).toFixed(0)} ms`,
    );
    assert.ok(percentile(clicks, 0.5) < CLICK_MS, String(clicks));
  } finally {
    sending = false;
    await sender;
  }
  await close();
});

test("a conversation of 20,000 messages opens at its end, and only a few hundred are in the document", async () => {
  const long = "447000000001";
  for (let first = 0; first < 20_000; first += BULK) {
    const messages = [
      { from: "InfoSMS", destinations: Array.from({ length: BULK }, () => ({ to: long })), text: `Batch ${first / BULK}` },
    ];
    await simulator.send("/sms/1/text/advanced", { messages });
  }
  const { page, close } = await open(browser, simulator, { route: `#/phones/${long}` });
  await page.locator(".bubble", { hasText: "Batch 19" }).last().waitFor();
  const talk = page.locator(".talk");
  const oldest = () => page.locator(".message[data-key]").first().getAttribute("data-key");
  for (let step = 0; step < 8; step += 1) {
    const before = await oldest();
    await talk.evaluate((element) => (element.scrollTop = 0));
    await eventually("older messages", async () => (await oldest()) !== before);
    await talk.evaluate((element) => (element.scrollTop = element.scrollHeight / 2));
  }
  const bubbles = await page.locator(".bubble").count();
  console.log(`${bubbles} messages of 20,000 in the document after scrolling up`);
  assert.ok(bubbles > 200 && bubbles <= 300, String(bubbles));
  await page.getByRole("button", { name: "Newest messages" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".bubble").length <= 50);
  await close();
});
