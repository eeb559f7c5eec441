// What the page shows when there is nothing, when an answer takes time, when an answer is an error, and when the simulator is
// gone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bubble, launch, open, row, violations } from "./support/browser.js";
import { eventually, Simulator, stopAll } from "./support/processes.js";

let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await stopAll();
});

test("an empty simulator says how to begin, and a text can be sent from the page", async () => {
  const simulator = await Simulator.start();
  const { page, close } = await open(browser, simulator, { route: "" });
  await page.getByText("No phone yet").waitFor();
  assert.deepEqual(await violations(page), []);
  await page.getByRole("button", { name: "Send a text to a phone" }).first().click();
  await page.getByRole("dialog").getByRole("button", { name: "Send" }).click();
  await bubble(page, "Your code is 482913").getByText("delivered").waitFor();
  await close();
  await simulator.stop();
});

test("a slow answer shows that it loads, an error says why and can be tried again", async () => {
  const simulator = await Simulator.start();
  await simulator.text("41793026727", "Hello");
  const { page, expect, close } = await open(browser, simulator, { route: "#/account" });
  expect("500");
  let release;
  const slow = new Promise((resolve) => (release = resolve));
  await page.route("**/_sim/phones?*", async (route) => {
    await slow;
    await route.continue();
  });
  await page.getByRole("link", { name: "Phones" }).click();
  await page.getByRole("listbox").getByText("Loading…").waitFor();
  release();
  await row(page, "41793026727").waitFor();
  await page.unroute("**/_sim/phones?*");
  await page.route("**/_sim/phones/41793026727*", (route) => route.fulfill({ status: 500, body: "{}" }));
  await row(page, "41793026727").click();
  await page.getByText("was answered with status 500").waitFor();
  await page.unroute("**/_sim/phones/41793026727*");
  await page.getByRole("button", { name: "Try again" }).click();
  await bubble(page, "Hello").waitFor();
  expect("404");
  await page.goto(`${simulator.url}/_sim/#/phones/4917000000`);
  await page.getByText("No stored message was sent to this number").waitFor();
  await close();
  await simulator.stop();
});

test("the page says that the simulator is gone, and shows the new one when it is back", async () => {
  const simulator = await Simulator.start();
  const listen = new URL(simulator.url).host;
  await simulator.text("41793026727", "Before the restart");
  const { page, expect, close } = await open(browser, simulator, { route: "#/phones/41793026727" });
  expect("ERR_CONNECTION_REFUSED");
  expect("ERR_INCOMPLETE_CHUNKED_ENCODING");
  expect("ERR_CONNECTION_RESET");
  expect("404");
  await bubble(page, "Before the restart").waitFor();
  await simulator.stop();
  await page.locator('#connection[data-state="lost"]').waitFor();
  await page.getByText("The simulator does not answer. What you see may be old").waitFor();
  assert.equal(await bubble(page, "Before the restart").count(), 1, "what was loaded stays");
  assert.deepEqual(await violations(page), []);
  const again = await Simulator.start({ listen });
  await again.text("385911234567", "After the restart");
  await page.locator('#connection[data-state="live"]').waitFor();
  await row(page, "385911234567").waitFor();
  await eventually("the old phone is gone", async () => (await row(page, "41793026727").count()) === 0);
  await again.text("385911234567", "And live again");
  await row(page, "385911234567").getByText("And live again").waitFor();
  await close();
  await again.stop();
});

test("where the stream has too many listeners, the page says so and works without it", async () => {
  const simulator = await Simulator.start();
  await simulator.text("41793026727", "Hello");
  const listeners = new AbortController();
  const streams = await Promise.all(
    Array.from({ length: 16 }, () => fetch(`${simulator.url}/_sim/stream`, { signal: listeners.signal })),
  );
  assert.ok(streams.every(({ ok }) => ok));
  const { page, expect, close } = await open(browser, simulator, { live: false });
  expect("503");
  await page.getByText("too many pages may be open").waitFor();
  await row(page, "41793026727").click();
  await bubble(page, "Hello").waitFor();
  // While the clock stands, the text changes nothing later that the stream could tell.
  await simulator.post("clock", { frozen: true });
  await simulator.text("385911234567", "Sent before the stream was open");
  listeners.abort();
  await page.locator('#connection[data-state="live"]').waitFor();
  await row(page, "385911234567").getByText("Sent before the stream was open").waitFor();
  await close();
  await simulator.stop();
});

test("a stream that is opened again after a reset keeps the phone that is shown and what is being written", async () => {
  const simulator = await Simulator.start();
  await simulator.text("41793026727", "Before the reset");
  const { page, expect, close } = await open(browser, simulator);
  expect("404");
  await page.addInitScript(() => {
    globalThis.streams = [];
    globalThis.hellos = 0;
    globalThis.EventSource = class extends EventSource {
      constructor(address) {
        super(address);
        globalThis.streams.push(this);
        this.addEventListener("hello", () => (globalThis.hellos += 1));
      }
    };
  });
  await page.reload();
  await row(page, "41793026727").click();
  await bubble(page, "Before the reset").waitFor();
  await page.waitForFunction(() => globalThis.hellos === 1);
  await simulator.post("reset", {});
  await page.getByText("No phone yet").waitFor();
  await simulator.text("385911234567", "After the reset");
  await row(page, "385911234567").click();
  await bubble(page, "After the reset").waitFor();
  const draft = page.getByLabel("Text to send as this phone");
  await draft.fill("A draft");
  await page.evaluate(() => globalThis.streams[0].dispatchEvent(new Event("error")));
  await page.waitForFunction(() => globalThis.hellos === 2);
  assert.equal(await draft.inputValue(), "A draft");
  await page.getByRole("heading", { name: "385911234567" }).waitFor();
  await close();
  await simulator.stop();
});

test("after more phones changed than one answer holds, the list has all of them, in their order", async () => {
  const simulator = await Simulator.start();
  await simulator.post("clock", { frozen: true });
  const number = (index) => `4479${String(10_000_000 + index)}`;
  const send = (numbers, text) =>
    simulator.send("/sms/1/text/advanced", {
      messages: [{ from: "InfoSMS", destinations: numbers.map((to) => ({ to })), text }],
    });
  const old = Array.from({ length: 100 }, (_, index) => number(index));
  await send(old, "An old one");
  const { page, close } = await open(browser, simulator);
  await row(page, number(99)).waitFor();
  // One of those that are loaded moves to the top with the new ones.
  const fresh = Array.from({ length: 99 }, (_, index) => number(1000 + index));
  await send([...fresh, number(70)], "A new one");
  await row(page, number(70)).getByText("A new one").waitFor();
  const list = page.getByRole("listbox");
  await eventually(
    "the new phone in place 75",
    async () => {
      await list.evaluate((element) => (element.scrollTop = 75 * 70));
      return (await row(page, number(1024)).count()) === 1;
    },
    10_000,
  );
  assert.equal(await row(page, number(1024)).getAttribute("aria-posinset"), "76");
  await close();
  await simulator.stop();
});

test("an open conversation that grows stays small: at its end it shows the newest, elsewhere what is read", async () => {
  const simulator = await Simulator.start();
  const number = "41793026727";
  const send = (text) =>
    simulator.send("/sms/1/text/advanced", {
      messages: [{ from: "InfoSMS", destinations: Array.from({ length: 40 }, () => ({ to: number })), text }],
    });
  await send("Batch 0.");
  const { page, close } = await open(browser, simulator, { route: `#/phones/${number}` });
  const bubbles = page.locator(".bubble");
  await bubbles.getByText("Batch 0.").last().waitFor();
  for (let batch = 1; batch <= 8; batch += 1) {
    await send(`Batch ${batch}.`);
    await bubbles.getByText(`Batch ${batch}.`).last().waitFor();
  }
  assert.ok((await bubbles.count()) <= 300, `${await bubbles.count()} messages at the end`);

  await page.locator(".talk").evaluate((element) => (element.scrollTop = element.scrollHeight / 2));
  const oldest = page.locator(".message[data-key]").first();
  const key = await oldest.getAttribute("data-key");
  for (let batch = 9; batch <= 16; batch += 1) {
    await send(`Batch ${batch}.`);
    await row(page, number).getByText(`Batch ${batch}.`).waitFor();
  }
  await page.getByRole("button", { name: "Newest messages" }).waitFor();
  assert.ok((await bubbles.count()) <= 300, `${await bubbles.count()} messages in the middle`);
  assert.equal(await oldest.getAttribute("data-key"), key, "what is read stays");
  await page.getByRole("button", { name: "Newest messages" }).click();
  await bubbles.getByText("Batch 16.").last().waitFor();
  await eventually("only the newest", async () => (await bubbles.count()) <= 50);
  await close();
  await simulator.stop();
});

test("an answer that comes after a later one of the same conversation changes nothing", async () => {
  const simulator = await Simulator.start();
  // While the clock stands, nothing changes that the stream could tell.
  await simulator.post("clock", { frozen: true });
  await simulator.text("385911234567", "Another phone");
  await simulator.text("41793026727", "The first");
  const { page, close } = await open(browser, simulator);
  await row(page, "41793026727").waitFor();
  let held = null;
  await page.route("**/_sim/phones/41793026727?*", async (route) => {
    if (held) return route.continue();
    held = { route, response: null };
    held.response = await route.fetch();
  });
  await row(page, "41793026727").click();
  await eventually("the first answer", () => held?.response);
  await row(page, "385911234567").click();
  await bubble(page, "Another phone").waitFor();
  await simulator.text("41793026727", "The second");
  await row(page, "41793026727").getByText("The second").waitFor();
  await row(page, "41793026727").click();
  await bubble(page, "The second").waitFor();
  const late = page.waitForEvent("requestfinished", (request) => request === held.route.request());
  await held.route.fulfill({ response: held.response });
  await late;
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 100)));
  assert.equal(await bubble(page, "The second").count(), 1);
  await close();
  await simulator.stop();
});

test("a reset leaves nothing of a deleted message: neither its request nor, on the way back, its story", async () => {
  const simulator = await Simulator.start();
  await simulator.text("41793026727", "Hello");
  const { page, expect, close } = await open(browser, simulator, { route: "#/phones/41793026727" });
  expect("404");
  expect("500");
  await bubble(page, "Hello").locator(".meta").click();
  const story = page.getByRole("complementary");
  await story.getByText("What happened").waitFor();
  await page.getByRole("link", { name: "Account" }).click();
  // What could not be loaded is loaded again.
  await page.route("**/_sim/requests/0", (route) => route.fulfill({ status: 500, body: "{}" }));
  const request = page.locator(".request summary").first();
  await request.click();
  await page.getByText("was answered with status 500").waitFor();
  await page.unroute("**/_sim/requests/0");
  await request.click();
  await request.click();
  await page.getByRole("group", { name: "Answer" }).getByText("messageId").waitFor();
  await simulator.post("reset", {});
  await page.getByText("No request yet.").waitFor();
  await page.goBack();
  await story.getByText("No stored message has this id.").waitFor();
  await close();
  await simulator.stop();
});

test("a connection that says nothing for long is opened again", async () => {
  const simulator = await Simulator.start();
  const { page, close } = await open(browser, simulator);
  await page.clock.install();
  await page.reload();
  await page.locator('#connection[data-state="live"]').waitFor();
  simulator.process.kill("SIGSTOP");
  await page.clock.fastForward(45_000);
  await page.locator('#connection[data-state="lost"]').waitFor();
  simulator.process.kill("SIGCONT");
  await page.locator('#connection[data-state="live"]').waitFor();
  await simulator.text("41793026727", "Heard again");
  await row(page, "41793026727").getByText("Heard again").waitFor();
  await close();
  await simulator.stop();
});

test("the account keeps the focus while it is drawn again every second, and an error that stays is drawn once", async () => {
  const simulator = await Simulator.start();
  const { page, expect, close } = await open(browser, simulator, { route: "#/account" });
  expect("500");
  const answered = async (times) => {
    for (let time = 0; time < times; time += 1) await page.waitForResponse("**/_sim/account");
  };
  const link = page.getByRole("link", { name: /^delivered/u });
  await link.focus();
  await answered(3);
  assert.ok(await link.evaluate((element) => element === document.activeElement), "nothing has changed");
  await simulator.text("41793026727", "Hello");
  await page.getByRole("link", { name: /^delivered ?1$/u }).waitFor();
  assert.ok(await link.evaluate((element) => element === document.activeElement), "a count has changed");

  await page.route("**/_sim/account", (route) => route.fulfill({ status: 500, body: "{}" }));
  const again = page.getByRole("button", { name: "Try again" });
  await again.focus();
  await answered(3);
  assert.ok(await again.evaluate((element) => element === document.activeElement), "the same error");
  await page.unroute("**/_sim/account");
  await again.waitFor({ state: "hidden" });
  await close();
  await simulator.stop();
});

test("nothing is wider than the window from 320 to 2560 pixels", async () => {
  const simulator = await Simulator.start();
  await simulator.text("41793026727", `A long word: ${"x".repeat(300)}`);
  for (const width of [320, 375, 720, 900, 1180, 1440, 2560]) {
    const { page, close } = await open(browser, simulator, { width, height: 800 });
    await row(page, "41793026727").waitFor();
    for (const route of ["#/phones", "#/phones/41793026727", "#/account", "#/controls"]) {
      await page.goto(`${simulator.url}/_sim/${route}`);
      await page.locator("main > *").first().waitFor();
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(over <= 0, `${route} at ${width} px is ${over} px too wide`);
    }
    await close();
  }
  await simulator.stop();
});
