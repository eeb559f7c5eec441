// Screen readers and keyboards: axe-core finds nothing serious in any view or scheme, and everything can be done without a
// pointer.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bubble, launch, open, row, violations } from "./support/browser.js";
import { eventually, Simulator, stopAll } from "./support/processes.js";

const NUMBER = "41793026727";
let browser;
let simulator;

before(async () => {
  browser = await launch();
  simulator = await Simulator.start({ args: ["--keyword", "41793026700=STOP"] });
  await simulator.text("385911234567", "Dobar dan");
  await simulator.text("999020001555", "nobody is there");
  await simulator.text("999010061234", "refused");
  await simulator.text(NUMBER, "Your code is 482913");
  await simulator.text(NUMBER, "مرحبا");
  await simulator.post("inbound", { from: NUMBER, to: "41793026700", text: "STOP please" });
  await simulator.post("inbound", { from: NUMBER, to: "41793026700", hex: "48656c6c6f", dataCoding: 4 });
  await simulator.post("faults", { kind: "latency", ms: 1 });
  await simulator.post("faults", { kind: "status", status: 503, path: "/nothing" });
  await fetch(`${simulator.url}/sms/1/reports`);
});

after(async () => {
  await browser?.close();
  await stopAll();
});

/** Presses a key until a condition holds. */
async function pressUntil(page, key, what, condition) {
  for (let press = 0; press < 100; press += 1) {
    if (await condition()) return;
    await page.keyboard.press(key);
  }
  assert.fail(`${what}: not after 100 times ${key}`);
}

for (const [name, options] of [
  ["light", {}],
  ["dark", { scheme: "dark" }],
  ["375 px wide", { width: 375, height: 720 }],
  ["375 px wide and dark", { width: 375, height: 720, scheme: "dark" }],
]) {
  test(`axe-core finds no serious violation in any view: ${name}`, async () => {
    const { page, close } = await open(browser, simulator, options);
    const found = [];
    const check = async (what) => found.push(...(await violations(page)).map((violation) => `${what}: ${violation}`));
    await row(page, NUMBER).waitFor();
    await check("list");
    await row(page, NUMBER).click();
    await bubble(page, "Your code").getByText("delivered").waitFor();
    await check("conversation");
    await page.locator(".meta").first().click();
    await page.getByRole("complementary").getByText("What happened").waitFor();
    await page.locator(".part:not([hidden])").evaluateAll((parts) => parts.forEach((part) => (part.open = true)));
    await check("story");
    await page.keyboard.press("Escape");
    await page.goto(`${simulator.url}/_sim/#/account`);
    await page.locator(".request summary").first().click();
    await page.locator(".request-detail pre").first().waitFor();
    await check("account");
    await page.goto(`${simulator.url}/_sim/#/controls`);
    await page.getByRole("button", { name: "Switch off latency" }).waitFor();
    await page.getByRole("radio").first().waitFor();
    await check("controls");
    await page.getByRole("button", { name: "Reset the simulator" }).click();
    await check("question before the reset");
    await page.keyboard.press("Escape");
    await page.goto(`${simulator.url}/_sim/#/phones?q=nothing+has+this`);
    await page.getByText("No phone found").waitFor();
    await check("nothing found");
    await close();
    assert.deepEqual(found, []);
  });
}

test("a phone is found, read, answered and its story opened and closed by keyboard alone", async () => {
  const { page, close } = await open(browser, simulator);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
  await row(page, NUMBER).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "content");

  await page.keyboard.press("Control+k");
  assert.equal(await focused(), "search");
  await page.keyboard.type("3026");
  await page.getByText("1 phone found").waitFor();
  await page.keyboard.press("Escape");
  await eventually("all phones", async () => (await page.getByRole("option").count()) === 4);
  await page.keyboard.press("ArrowDown");
  assert.equal(await focused(), "list");
  // The newest is the number that wrote last; the arrow keys move from phone to phone.
  await page.keyboard.press("ArrowDown");
  await page.getByRole("heading", { name: NUMBER }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.getByRole("heading", { name: "999010061234" }).waitFor();
  await page.keyboard.press("End");
  await page.getByRole("heading", { name: "385911234567" }).waitFor();
  assert.equal(await page.getByRole("option", { selected: true }).count(), 1);
  await page.keyboard.press("Home");
  await page.getByRole("heading", { name: NUMBER }).waitFor();

  await page.keyboard.press("Enter");
  assert.equal(await focused(), "composer-text");
  await page.keyboard.type("By keyboard");
  await page.keyboard.press("Enter");
  await bubble(page, "By keyboard").waitFor();
  await pressUntil(page, "Shift+Tab", "the conversation", async () => /^(talk|meta.*)$/u.test(await focused()));
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowUp");
  assert.equal(await focused(), "meta");
  await page.keyboard.press("Enter");
  await page.getByRole("complementary").getByText("What happened").waitFor();
  assert.equal(await focused(), "story-title");
  const text = () => page.evaluate(() => document.activeElement.textContent);
  await pressUntil(page, "Tab", "the segments", async () => (await text()) === "Segments");
  await page.keyboard.press("Enter");
  await page.locator(".segments").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("complementary").waitFor({ state: "hidden" });
  assert.equal(await focused(), "meta");
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "list");
  await close();
});

test("Ctrl+K leads to the search from a conversation that fills a narrow window", async () => {
  const { page, close } = await open(browser, simulator, { route: `#/phones/${NUMBER}`, width: 375, height: 720 });
  await bubble(page, "Your code").waitFor();
  await page.keyboard.press("Control+k");
  assert.equal(await page.evaluate(() => document.activeElement.id), "search");
  await close();
});

test("faults, the clock and the reset are used by keyboard alone, and every stop of the Tab key shows its focus", async (t) => {
  t.after(() => simulator.request("/_sim/faults", { method: "DELETE" }));
  const { page, close } = await open(browser, simulator, { route: "#/controls" });
  await page.getByRole("button", { name: "Switch off latency" }).waitFor();
  const name = () =>
    page.evaluate(
      () =>
        document.activeElement.getAttribute("aria-label") ||
        document.activeElement.textContent ||
        document.activeElement.labels?.[0]?.textContent,
    );
  const visible = () =>
    page.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return outlineStyle !== "none" && outlineWidth !== "0px";
    });
  const tabTo = async (wanted) => {
    for (let stops = 0; stops < 120; stops += 1) {
      await page.keyboard.press("Tab");
      const at = await name();
      if (at === null || (await page.evaluate(() => document.activeElement === document.body))) continue;
      assert.ok(await visible(), `the focus on ${at} is not visible`);
      if (at.includes(wanted)) return;
    }
    assert.fail(`no stop ${wanted}`);
  };
  const before = (await simulator.get("clock")).nowMs;
  await tabTo("+ 1 hour");
  await page.keyboard.press("Enter");
  await eventually("the clock", async () => (await simulator.get("clock")).nowMs >= before + 3_600_000);
  await tabTo("Switch off latency");
  await page.keyboard.press("Space");
  await eventually("one fault less", async () => (await simulator.get("faults")).faults.length === 1);
  // The focus is on the kind of another fault.
  for (let step = 0; step < 20 && (await page.evaluate(() => document.activeElement.value)) !== "html"; step += 1)
    await page.keyboard.press("ArrowDown");
  await tabTo("Switch on");
  await page.keyboard.press("Enter");
  await eventually("another fault", async () => (await simulator.get("faults")).faults.some(({ kind }) => kind === "html"));
  await tabTo("Reset the simulator");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  assert.match(await name(), /Reset the simulator/u);
  await close();
});

test("a screen reader hears what happens: live regions, landmarks, names", async () => {
  const { page, close } = await open(browser, simulator);
  for (const landmark of ["banner", "navigation", "main"]) assert.equal(await page.getByRole(landmark).count(), 1, landmark);
  await simulator.text("4915112345678", "Guten Tag");
  await page.locator("#announcements", { hasText: "4915112345678" }).waitFor({ state: "attached" });
  await row(page, "4915112345678").click();
  await page.getByRole("list", { name: "Messages, oldest first" }).waitFor();
  await page.getByRole("button", { name: /^Message from InfoSMS, delivered .*Show its story$/u }).waitFor();
  await close();
});
