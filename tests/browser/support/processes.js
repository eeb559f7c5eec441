// Starts the built binary: a simulator, and a bridge in front of it, on free ports.
//
// Invariants: each process is ended by its test or, if the test failed, by `stopAll` after the last test of the file; waits have
// a deadline.

import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export const BINARY = process.env.SMSBRIDGE_BINARY ?? join(import.meta.dirname, "../../../target/debug/smsbridge");
export const DEADLINE_MS = 30_000;

const run = promisify(execFile);

/** Waits until `condition` gives something true, and returns it. */
export async function eventually(what, condition, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  let last;
  for (;;) {
    try {
      last = await condition();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`${what}: not in ${deadlineMs} ms; last: ${last?.message ?? JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A port that was free a moment ago. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const started = new Set();

/** Ends what failed tests left running. */
export async function stopAll() {
  await Promise.all([...started].map((process) => process.stop()));
}

class Running {
  constructor(args, environment = {}) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("SMSBRIDGE_")));
    this.process = spawn(BINARY, args, { env: { ...env, ...environment }, stdio: ["ignore", "pipe", "pipe"] });
    this.output = "";
    started.add(this);
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (data) => (this.output += data));
    }
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
  }

  async found(pattern) {
    return eventually(`${pattern} in the output`, () => {
      if (this.process.exitCode !== null) throw new Error(`it ended: ${this.output}`);
      return pattern.exec(this.output);
    });
  }

  async stop() {
    started.delete(this);
    if (this.process.exitCode === null) this.process.kill("SIGTERM");
    const hard = setTimeout(() => this.process.kill("SIGKILL"), DEADLINE_MS);
    await this.ended;
    clearTimeout(hard);
  }
}

/** A simulator. `post` and `get` are its control interface, `send` is its API. */
export class Simulator extends Running {
  static async start({ listen = "127.0.0.1:0", args = [] } = {}) {
    const simulator = new Simulator(["simulate", "--listen", listen, ...args]);
    const [, url] = await simulator.found(/(http:\/\/[\d.]+:\d+)/u);
    simulator.url = url;
    return simulator;
  }

  async request(path, options = {}) {
    const response = await fetch(this.url + path, { ...options, signal: AbortSignal.timeout(DEADLINE_MS) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return JSON.parse(text);
  }

  get(path) {
    return this.request(`/_sim/${path}`);
  }

  post(path, body) {
    return this.request(`/_sim/${path}`, { method: "POST", body: JSON.stringify(body) });
  }

  /** A call of the API with the credentials of the account. */
  send(path, body) {
    const headers = { Authorization: `Basic ${btoa("demo:demo")}`, "Content-Type": "application/json" };
    return this.request(path, { method: "POST", headers, body: typeof body === "string" ? body : JSON.stringify(body) });
  }

  text(to, text, from = "InfoSMS") {
    return this.send("/sms/1/text/single", { from, to, text });
  }

  /** Its resident memory in MiB, where the system says it. */
  async memoryMib() {
    return memoryMib(this.process.pid);
  }
}

/** The resident memory of a process in MiB. */
export async function memoryMib(pid) {
  const { stdout } = await run("ps", ["-o", "rss=", "-p", String(pid)]);
  return Math.round(Number(stdout) / 1024);
}

/** A bridge on the embedded event log, whose API is a simulator. */
export class Bridge extends Running {
  /** Starts a bridge at `http` and a simulator that pushes to it. */
  static async withSimulator(args = []) {
    const port = await freePort();
    const webhook = `http://127.0.0.1:${port}/infobip/local`;
    const parameters = ["sender", "receiver", "text", "bin", "datetime", "messageId", "datacoding", "esmclass"];
    const inbound = `${webhook}/inbound?${parameters.map((name) => `${name}=%${name}%`).join("&")}`;
    const simulator = await Simulator.start({ args: ["--inbound-url", inbound, "--clicks-url", `${webhook}/clicks`, ...args] });
    const bridge = await Bridge.start(simulator, port);
    return { bridge, simulator };
  }

  static async start(simulator, port = 0) {
    const folder = await mkdtemp(join(tmpdir(), "smsbridge-browser-"));
    const flags = {
      "infobip-base-url": simulator.url,
      "grpc-listen": "127.0.0.1:0",
      "http-listen": `127.0.0.1:${port}`,
      "http-public-url": `http://127.0.0.1:${port}`,
      "admin-listen": "127.0.0.1:0",
      "events-data-dir": folder,
      "log-format": "json",
    };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const bridge = new Bridge(["serve", ...args], { SMSBRIDGE_INFOBIP__USERNAME: "demo", SMSBRIDGE_INFOBIP__PASSWORD: "demo" });
    bridge.folder = folder;
    const [, grpc] = await bridge.found(/"grpc":"([\d.:]+)"/u);
    bridge.grpc = grpc;
    return bridge;
  }

  /** Runs a client command against the bridge; returns what it printed. */
  async call(command, ...args) {
    const { stdout } = await run(BINARY, [command, "--address", `http://${this.grpc}`, ...args], { timeout: DEADLINE_MS });
    return stdout;
  }

  /** All events in the log. */
  async events() {
    const printed = await this.call("events", "--json");
    return printed
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  }

  /** Waits for an event of which `matches` is true. */
  event(what, matches) {
    return eventually(what, async () => (await this.events()).find(matches));
  }

  async stop() {
    await super.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}
