// Pictures of the page for the documents: the same scene each time, on a frozen clock.

import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { after, before, test } from "node:test";
import { bubble, launch, open, picture, row } from "./support/browser.js";
import { Simulator, stopAll } from "./support/processes.js";

const NUMBER = "41793026727";
const SHOP = "41793026700";
// A date ahead of every clock that runs this, because a frozen clock can only be advanced, and by ten years at most.
const MORNING_MS = Date.UTC(2036, 2, 5, 9, 12);
const MINUTE_MS = 60_000;
const MAX_BYTES = 150_000;
let browser;
let simulator;

async function advance(advanceMs) {
  await simulator.post("clock", { advanceMs });
}

async function scene() {
  const { nowMs } = await simulator.post("clock", { frozen: true });
  await advance(MORNING_MS - nowMs);
  const single = async (to, from, text) => {
    await simulator.text(to, text, from);
    await advance(MINUTE_MS);
  };
  const answer = async (from, text) => {
    await simulator.post("inbound", { from, to: SHOP, text });
    await advance(2 * MINUTE_MS);
  };
  await single("447700900123", "InfoSMS", "Your code is 551204");
  await single("33612345678", "Velo", "Votre vélo est prêt. À bientôt !");
  await single("972541234567", "Shop", "שלום, החבילה שלך מחכה בחנות");
  await single("9990200015550", "InfoSMS", "Your parcel arrives today");
  await single("999010061234", "InfoSMS", "Your parcel arrives today");
  await single("385911234567", "Pošta", "Dobar dan! Vaš paket stiže danas između 10 i 12 sati. 📦");
  await single("306912345678", SHOP, "Καλημέρα! Η παραγγελία σας είναι έτοιμη.");
  await answer("4915112345678", "Wann habt ihr offen?");
  await simulator.send("/sms/1/text/advanced", {
    messages: [
      {
        from: "Clinic",
        destinations: [{ to: "61412345678" }],
        text: "Reminder: tomorrow at 10:15",
        sendAt: "2036-03-06T08:00:00.000+0000",
      },
    ],
  });
  await advance(MINUTE_MS);
  await single(NUMBER, SHOP, "Hello Ada, this is the bicycle shop. Your bike is ready. When will you pick it up?");
  await answer(NUMBER, "Wonderful! Is tomorrow at 9 too early?");
  await single(NUMBER, SHOP, "Not at all, we open at 8. See you tomorrow 🚲");
  await simulator.send("/sms/1/text/advanced", {
    tracking: { track: "URL" },
    messages: [
      {
        from: "Velo",
        destinations: [{ to: NUMBER, messageId: "receipt-2036-117" }],
        text: "Your receipt: https://velo.example/r/117 Thank you!",
        notifyUrl: "http://127.0.0.1:9/reports",
      },
    ],
  });
  await advance(2000);
  const [message] = (await simulator.get(`messages?messageId=receipt-2036-117`)).messages;
  await fetch(simulator.url + new URL(/http:\S+/u.exec(message.text)[0]).pathname, { redirect: "manual" });
  await advance(3 * MINUTE_MS);
  await answer(NUMBER, "Got it, thanks!");
}

before(async () => {
  browser = await launch();
  simulator = await Simulator.start({ args: ["--keyword", `${SHOP}=STOP`] });
  await scene();
});

after(async () => {
  await browser?.close();
  await stopAll();
});

async function take(name, options, prepare) {
  const { page, close } = await open(browser, simulator, options);
  await prepare(page);
  const path = await picture(page, name);
  await close();
  const { size } = await stat(path);
  assert.ok(size < MAX_BYTES, `${name} has ${size} bytes`);
}

async function story(page) {
  await bubble(page, "Your receipt")
    .getByRole("button", { name: /Show its story/u })
    .click();
  await page.getByRole("complementary").getByText("Push of reports, next attempt").waitFor();
  await row(page, "4915112345678").waitFor();
  await page.mouse.move(0, 0);
}

const route = `#/phones/${NUMBER}`;

test("the page in light", () => take("page-light", { route, width: 1200, height: 680 }, story));

test("the page in dark", () => take("page-dark", { route, width: 1200, height: 680, scheme: "dark" }, story));

test("the page at 375 pixels", () =>
  take("page-375", { route, width: 375, height: 720 }, async (page) => {
    await bubble(page, "Got it, thanks!").waitFor();
  }));

test("the controls", () =>
  take("page-controls", { route: "#/controls", width: 1200, height: 800 }, async (page) => {
    await page.getByRole("radio").first().waitFor();
    await page.getByText("pending").first().waitFor();
  }));

test("the account", () =>
  take("page-account", { route: "#/account", width: 1200, height: 800 }, async (page) => {
    await page.locator(".request").first().waitFor();
    await page.getByRole("button", { name: "Copy: curl" }).waitFor();
  }));
