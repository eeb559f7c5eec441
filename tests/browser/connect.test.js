// The lines to copy work against the very instance that shows them, and a new user gets from the start to an answered message.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { bubble, launch, open, row } from "./support/browser.js";
import { BINARY, DEADLINE_MS, eventually, Simulator, stopAll } from "./support/processes.js";

const run = promisify(execFile);
const NUMBER = "41793026727";
const PATH = `${dirname(BINARY)}:${process.env.PATH}`;
let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await stopAll();
});

/** Copies a line with its button. */
async function copied(page, name) {
  await page.getByRole("button", { name: `Copy: ${name}` }).click();
  return page.evaluate(() => navigator.clipboard.readText());
}

const shell = (line, env = {}) =>
  run("sh", ["-c", line], { env: { PATH, HOME: process.env.HOME, ...env }, timeout: DEADLINE_MS });

test("the lines for curl, the bridge and gRPC send to the simulator whose page they are copied from", async () => {
  const simulator = await Simulator.start({ args: ["--username", "it's me", "--password", "p w"] });
  const { page, close } = await open(browser, simulator, { route: "#/account" });
  await shell(await copied(page, "curl"));
  assert.equal((await simulator.get("messages")).messages.at(-1).text, "Hello");

  // Free ports in place of the usual ones, which may be taken here.
  const line = await copied(page, "A bridge in front of this simulator");
  const folder = join(tmpdir(), `smsbridge-lines-${process.pid}`);
  const listen = {
    SMSBRIDGE_GRPC__LISTEN: "127.0.0.1:0",
    SMSBRIDGE_HTTP__LISTEN: "127.0.0.1:0",
    SMSBRIDGE_ADMIN__LISTEN: "127.0.0.1:0",
  };
  const bridge = spawn("sh", ["-c", `exec env ${line}`], {
    env: { PATH, HOME: process.env.HOME, ...listen, SMSBRIDGE_EVENTS__DATA_DIR: folder, SMSBRIDGE_LOG__FORMAT: "json" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [bridge.stdout, bridge.stderr]) stream.on("data", (data) => (output += data));
  try {
    const [, grpc] = await eventually(`the bridge listens: ${line}`, () => /"grpc":"([\d.:]+)"/u.exec(output));
    await shell(await copied(page, "gRPC, through the bridge"), { SMSBRIDGE_ADDRESS: `http://${grpc}` });
    assert.equal((await simulator.get("messages")).messages.at(-1).text, "Hello by gRPC");
  } finally {
    const ended = new Promise((resolve) => bridge.once("exit", resolve));
    bridge.kill("SIGTERM");
    await ended;
    await run("rm", ["-rf", folder]);
  }
  assert.match(await copied(page, "AMQP, through RabbitMQ and the bridge"), /^smsbridge send --amqp-url /u);
  await close();
  await simulator.stop();
});

test("from the start of smsbridge demo to an answered message on the page", async () => {
  const began = performance.now();
  const demo = spawn(BINARY, ["demo"], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [demo.stdout, demo.stderr]) stream.on("data", (data) => (output += data));
  const seconds = () => ((performance.now() - began) / 1000).toFixed(1);
  try {
    const [, address] = await eventually("the address of the page", () => /(http:\/\/[\d.]+:\d+)(?:\/_sim)?\/?\s/u.exec(output));
    assert.ok(output.indexOf(address) < 500, "the address of the page comes first");
    const { page, close } = await open(browser, { url: address });
    const opened = seconds();
    await row(page, NUMBER).click();
    await page.locator(".theirs .bubble").first().waitFor();
    await page.getByLabel("Text to send as this phone").fill("Thank you, it works");
    await page.keyboard.press("Enter");
    await bubble(page, "Thank you, it works")
      .getByText("pushed", { exact: true })
      .waitFor({ timeout: DEADLINE_MS })
      .catch(async (error) => {
        const pushes = await (await fetch(`${address}/_sim/pushes?limit=3`)).text();
        throw new Error(`${error.message}\nthe last pushes: ${pushes}\nthe demo: ${output}`);
      });
    console.log(`smsbridge demo: page open after ${opened} s, answered message after ${seconds()} s`);
    await page.goto(`${address}/_sim/#/account`);
    await shell(await copied(page, "gRPC, through the bridge"));
    await page.goto(`${address}/_sim/#/phones/${NUMBER}`);
    await bubble(page, "Hello by gRPC").getByText("delivered").waitFor();
    await close();
  } finally {
    const ended = new Promise((resolve) => demo.once("exit", resolve));
    demo.kill("SIGTERM");
    await ended;
  }
});
