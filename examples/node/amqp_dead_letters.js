import { publish, readBrokerArguments, run } from "./broker.js";

const DESCRIPTION = `Shows the commands that could not be carried out, and why. They stay in the queue, unless --replay or --discard.
With the same request id nothing is sent twice. So --replay leaves a command without one (message_id) in the queue, and one with
the reason DELIVERY_LIMIT or the header smsbridge-in-doubt, of which something may have been sent: exit status 1. --force replays
them, too.`;

const args = readBrokerArguments(DESCRIPTION, "", {
  json: { type: "boolean", default: false, help: "show the bodies, too" },
  replay: { type: "boolean", default: false, help: "publish each again, then remove it" },
  discard: { type: "boolean", default: false, help: "remove each" },
  force: { type: "boolean", default: false, help: "replay also what may be sent twice" },
});

/** Why a replay may send something a second time; undefined if it cannot. */
function doubt({ messageId, headers }) {
  if (!messageId) return "it has no request id";
  if (headers?.["smsbridge-reason"] === "DELIVERY_LIMIT" || headers?.["smsbridge-in-doubt"]) {
    return "something may have been sent before it was given up";
  }
  return undefined;
}

/** Publishes the command again, as its publisher did. */
async function replay(open, { content, properties }) {
  const { contentType, contentEncoding, type, messageId, appId, replyTo, correlationId, headers = {} } = properties;
  // A new command begins without the bridge's and the broker's headers.
  const own = Object.entries(headers).filter(([name]) => !/^(smsbridge-|x-)/.test(name));
  await publish(open, `${args.prefix}.commands`, headers["smsbridge-routing-key"] ?? "sms.send", content, {
    contentType,
    contentEncoding,
    type,
    messageId,
    appId,
    replyTo,
    correlationId,
    headers: Object.fromEntries(own),
  });
}

/** The letter in one line. One that the bridge did not publish has none of its headers. */
function show({ messageId, headers = {} }) {
  const header = (name) => headers[`smsbridge-${name}`] ?? "-";
  const at = Number(header("died-at"));
  const died = Number.isNaN(at) ? header("died-at") : new Date(at).toISOString();
  return (
    `${died}  ${header("application")}  ${header("routing-key")}  ` +
    `request ${messageId ?? "(none)"}  ${header("reason")}: ${header("detail")}`
  );
}

run(args, async (open) => {
  const { channel } = open;
  const queue = `${args.prefix}.dead`;
  // What is there now: a replayed command may come back.
  const { messageCount } = await channel.checkQueue(queue);
  let shown = 0;
  let skipped = 0;
  while (shown < messageCount) {
    const letter = await channel.get(queue);
    if (!letter) break;
    shown += 1;
    console.log(show(letter.properties));
    if (args.json) console.log(`  ${letter.content}`);
    const reason = args.replay && !args.force ? doubt(letter.properties) : undefined;
    if (reason) {
      console.log(`  not replayed: ${reason}`);
      skipped += 1;
      continue;
    }
    if (args.replay) await replay(open, letter);
    if (args.replay || args.discard) channel.ack(letter);
  }
  if (shown === 0) console.log("no dead letters");
  if (skipped > 0) console.error(`${skipped} of ${shown} not replayed: look for their events first, then use --force`);
  return skipped === 0; // what was not acknowledged goes back to the queue
});
