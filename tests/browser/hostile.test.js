// What comes from outside stays text, and other web sites can neither read nor change the simulator.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { bubble, launch, open, row } from "./support/browser.js";
import { Simulator, stopAll } from "./support/processes.js";

const NUMBER = "41793026727";
const MARKUP = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script><b>bold</b> & <a href="javascript:window.hacked=1">x</a> javascript:alert(1)`;
let browser;
let simulator;

before(async () => {
  browser = await launch();
  simulator = await Simulator.start();
});

after(async () => {
  await browser?.close();
  await stopAll();
});

test("markup, script, an override of direction and a hostile sender are shown as text", async () => {
  await simulator.text(NUMBER, MARKUP, "<b>x</b>");
  await simulator.text(NUMBER, "pay \u202e0001\u202c now\u200b\u0007", "A\u202eB<i>");
  await simulator.post("inbound", { from: NUMBER, to: "<i>4179</i>", text: `${MARKUP}\u202e` });
  const { page, close } = await open(browser, simulator, { route: `#/phones/${NUMBER}` });
  const hostile = bubble(page, "onerror").first();
  await hostile.waitFor();
  assert.equal(await page.locator(".theirs .bubble").first().textContent(), MARKUP);
  assert.equal(await page.locator(".bubble img, .bubble script, .bubble b, .who b, .who i, .row b").count(), 0);
  assert.equal(await page.locator(".bubble a").count(), 0, "javascript: is no link");
  const marks = await bubble(page, "pay").locator(".mark").allTextContents();
  assert.deepEqual(marks, ["U+202E", "U+202C", "U+200B", "U+0007"]);
  await page.getByText("<b>x</b>", { exact: true }).first().waitFor();

  // Its story, the account and the controls show the same texts.
  await page.locator(".meta").first().click();
  await page.getByText("The request", { exact: true }).click();
  await page.getByRole("group", { name: "Body" }).getByText("onerror").waitFor();
  await page.goto(`${simulator.url}/_sim/#/account`);
  await page.locator(".request summary").first().click();
  await page.locator(".request-detail pre").first().waitFor();
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator("main img, main script").count(), 0);
  await close();
});

test("a text of 10,000 characters is folded, and shown whole when asked for", async () => {
  const long = "0123456789".repeat(1000);
  await simulator.post("inbound", { from: "385911234567", to: "4179", text: long });
  const { page, close } = await open(browser, simulator, { route: "#/phones/385911234567" });
  const shown = page.locator(".bubble");
  await shown.waitFor();
  assert.ok((await shown.textContent()).length < 1500);
  await page.getByRole("button", { name: "Show all 10,000 characters" }).click();
  assert.equal(await shown.textContent(), long);
  const { width } = await page.locator(".talk").evaluate((talk) => ({ width: talk.scrollWidth - talk.clientWidth }));
  assert.equal(width, 0, "nothing is wider than the phone");
  await close();
});

test("a lone surrogate that is escaped in JSON harms neither the simulator nor the page", async () => {
  const body = String.raw`{"from":"InfoSMS","to":"447700900123","text":"half \ud83d of a pair"}`;
  const answer = await simulator.send("/sms/1/text/single", body).then(
    () => "accepted",
    (error) => error.message,
  );
  const { page, close } = await open(browser, simulator);
  if (answer === "accepted") {
    await row(page, "447700900123").click();
    await bubble(page, "half").waitFor();
  } else {
    assert.match(answer, /400/u);
    await page.goto(`${simulator.url}/_sim/#/account`);
    await page.locator(".request summary", { hasText: "400" }).first().click();
    await page.getByRole("group", { name: "Body" }).first().getByText("half").waitFor();
  }
  await close();
});

test("the Content-Security-Policy refuses inline scripts, inline styles, other servers and frames", async () => {
  const { page, expect, close } = await open(browser, simulator);
  expect("Content Security Policy");
  const result = await page.evaluate(async () => {
    const broken = [];
    document.addEventListener("securitypolicyviolation", (event) => broken.push(event.effectiveDirective));
    const script = document.createElement("script");
    script.textContent = "window.inline = 1";
    const styled = document.createElement("div");
    styled.setAttribute("style", "color: red");
    const image = document.createElement("img");
    image.src = "http://localhost:9/x.png";
    const frame = document.createElement("iframe");
    frame.src = location.href;
    const base = document.createElement("base");
    base.href = "http://localhost:9/";
    document.body.append(script, styled, image, frame);
    document.head.append(base);
    const fetched = await fetch("http://localhost:9/").then(
      () => "fetched",
      () => "refused",
    );
    await new Promise((resolve) => setTimeout(resolve, 200));
    base.remove();
    const color = getComputedStyle(styled).color;
    return { broken: [...new Set(broken)].sort(), inline: window.inline, red: color === "rgb(255, 0, 0)", fetched };
  });
  assert.equal(result.inline, undefined);
  assert.equal(result.red, false);
  assert.equal(result.fetched, "refused");
  for (const directive of ["base-uri", "connect-src", "frame-src", "img-src", "script-src-elem", "style-src-attr"]) {
    assert.ok(result.broken.includes(directive), `${directive} in ${result.broken}`);
  }
  await close();
});

test("a page of another origin can neither read the simulator nor change it", async () => {
  await simulator.text("4915112345678", "secret");
  const other = createServer((_, response) =>
    response.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>other</title><p>other</p>"),
  );
  await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
  const context = await browser.newContext();
  try {
    const before = (await simulator.get("messages?limit=1000")).messages.length;
    // The same site under another port, and another site.
    for (const host of ["127.0.0.1", "localhost"]) {
      const page = await context.newPage();
      await page.goto(`http://${host}:${other.address().port}/`);
      const result = await page.evaluate(async (target) => {
        const attempt = (path, options) =>
          fetch(target + path, options).then(
            async (response) => `${response.type} ${response.status} ${await response.text()}`,
            () => "refused",
          );
        const tried = {
          read: await attempt("/_sim/account"),
          readOpaque: await attempt("/_sim/messages?limit=1", { mode: "no-cors" }),
          reset: await attempt("/_sim/reset", { method: "POST" }),
          resetOpaque: await attempt("/_sim/reset", { method: "POST", mode: "no-cors", body: "{}" }),
          inbound: await attempt("/_sim/inbound", {
            method: "POST",
            mode: "no-cors",
            body: '{"from":"1","to":"2","text":"forged"}',
          }),
          faults: await attempt("/_sim/faults", { method: "POST", mode: "no-cors", body: '{"kind":"reset"}' }),
        };
        tried.stream = await new Promise((resolve) => {
          const source = new EventSource(`${target}/_sim/stream`);
          source.onerror = () => resolve("refused");
          source.addEventListener("hello", (event) => resolve(event.data));
        });
        const loads = (tag, attribute) =>
          new Promise((resolve) => {
            const element = document.createElement(tag);
            element.onload = () => resolve("loaded");
            element.onerror = () => resolve("refused");
            element[attribute] = `${target}/_sim/assets/main.js`;
            document.body.append(element);
          });
        tried.script = await loads("script", "src");
        const form = document.createElement("form");
        form.method = "POST";
        form.action = `${target}/_sim/reset`;
        form.target = "frame";
        const frame = document.createElement("iframe");
        frame.name = "frame";
        document.body.append(frame, form);
        const loaded = new Promise((resolve) => (frame.onload = resolve));
        form.submit();
        await loaded;
        return tried;
      }, simulator.url);
      for (const [what, outcome] of Object.entries(result))
        assert.match(outcome, /^refused$|^opaque 0 $/u, `${what} from ${host}: ${outcome}`);
      await page.close();
    }
    assert.equal((await simulator.get("messages?limit=1000")).messages.length, before, "nothing was deleted");
    assert.deepEqual((await simulator.get("faults")).faults, [], "no fault was set");
    const { phones } = await simulator.get("phones?q=forged");
    assert.deepEqual(phones, [], "no message was forged");
  } finally {
    await context.close();
    await new Promise((resolve) => other.close(resolve));
  }
});
