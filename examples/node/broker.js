// What the AMQP examples share: the connection to the broker, and how its errors are shown.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import amqp from "amqplib";
import { readArguments } from "./arguments.js";

/** The arguments, with the options that every example has. The variables are those of the bridge itself. */
export function readBrokerArguments(description, positionals = "", options = {}) {
  const args = readArguments(description, positionals, {
    ...options,
    "amqp-url": {
      type: "string",
      default: process.env.SMSBRIDGE_AMQP__URL || "amqp://guest:guest@127.0.0.1:5672/%2f",
      help: "the broker; amqps:// for TLS (environment: SMSBRIDGE_AMQP__URL)",
    },
    prefix: {
      type: "string",
      default: process.env.SMSBRIDGE_AMQP__PREFIX || "smsbridge",
      help: "prefix of the bridge's names (environment: SMSBRIDGE_AMQP__PREFIX)",
    },
    "ca-file": { type: "string", help: "the CA (PEM) that signed the broker's certificate" },
    "cert-file": { type: "string", help: "the client certificate (PEM)" },
    "key-file": { type: "string", help: "the key of the client certificate (PEM)" },
    timeout: { type: "string", default: "30", help: "seconds; default 30" },
  });
  return { ...args, timeout: Number(args.timeout) };
}

/** A connection to the broker. */
async function connect(args) {
  // The URL is not shown: it may have a password.
  try {
    if (!/^amqps?:$/.test(new URL(args["amqp-url"]).protocol)) throw new Error("another scheme");
  } catch {
    throw new Error("--amqp-url is not of the form amqp://USER:PASSWORD@HOST:PORT/VHOST");
  }
  const read = (file) => (file ? readFileSync(file) : undefined);
  return amqp.connect(args["amqp-url"], {
    ca: read(args["ca-file"]),
    cert: read(args["cert-file"]),
    key: read(args["key-file"]),
  });
}

/**
 * Connects, opens a channel with confirms, and ends the process: 0 if `main` answers true, 1 if it does not or the broker
 * refuses. `main` gets the channel, and the promise `closed`, which fails when the broker closes the channel.
 */
export async function run(args, main) {
  try {
    const connection = await connect(args);
    // The broker closes the channel or the connection at a mistake: `closed` and the call that made it fail as well.
    connection.on("error", () => {});
    const channel = await connection.createConfirmChannel();
    const closed = once(channel, "close"); // rejects with the error, if there is one
    closed.catch(() => {});
    process.exitCode = (await main({ channel, closed, timeout: args.timeout })) ? 0 : 1;
    // The channel first: its last acknowledgements are written before it closes, not before the connection does.
    await channel.close();
    await connection.close();
  } catch (error) {
    const hint = error.code === 404 ? ": does a bridge with this --prefix run on the broker?" : "";
    console.error(`${error.message || error.code}${hint}`);
    process.exit(1);
  }
}

/**
 * Publishes a message, and waits for the confirm: the broker has stored it. Fails if the broker returns it. Without a confirm it
 * names the request id: with it the command can be published again.
 */
export async function publish({ channel, closed, timeout }, exchange, routingKey, content, options) {
  let onReturn;
  let timer;
  const unconfirmed = (why) => new Error(`no confirm: publish again with the request id ${options.messageId}: ${why}`);
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(unconfirmed(`${timeout} s are over`)), timeout * 1000);
  });
  const returned = new Promise((_, reject) => {
    onReturn = () => reject(new Error("the broker returned the message: no queue is bound; start a bridge, it declares them"));
    channel.once("return", onReturn);
  });
  channel.publish(exchange, routingKey, content, { ...options, persistent: true, mandatory: true });
  try {
    // A publication with a mistake closes the channel: `closed` fails with the reason. It succeeds if the connection is lost.
    const lost = closed.then(() => Promise.reject(unconfirmed("the connection was lost")));
    const confirmed = channel.waitForConfirms().catch((error) => {
      if (error.message === "message nacked") throw new Error("the broker refused the message: a queue is full");
      return lost;
    });
    // The broker returns a message before it confirms it.
    await Promise.race([returned, confirmed, lost, late]);
  } finally {
    clearTimeout(timer);
    channel.off("return", onReturn);
  }
}

/**
 * Consumes a queue. `handle` processes a message and answers whether it was the last one. Answers whether that came within
 * `timeout` seconds (undefined: no limit).
 */
export async function consume({ channel, closed }, queue, options, timeout, handle) {
  let timer;
  const finished = new Promise((resolve, reject) => {
    if (timeout !== undefined) timer = setTimeout(() => resolve(false), timeout * 1000);
    let ended = false;
    const onMessage = (message) => {
      if (message === null) return reject(new Error(`the queue ${queue} was deleted`));
      if (ended) return; // not acknowledged: it goes back to the queue
      try {
        ended = handle(message);
        if (ended) resolve(true);
      } catch (error) {
        reject(error);
      }
    };
    channel.consume(queue, onMessage, options).catch(reject);
    closed.then(() => reject(new Error("the channel was closed")), reject);
  });
  try {
    return await finished;
  } finally {
    clearTimeout(timer);
  }
}
