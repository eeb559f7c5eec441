import { readBrokerArguments, run } from "./broker.js";

const DESCRIPTION = "Shows the commands that could not be carried out, and why. They stay in the queue, unless --replay or --discard.";

const args = readBrokerArguments(DESCRIPTION, "", {
  json: { type: "boolean", default: false, help: "show the bodies, too" },
  replay: { type: "boolean", default: false, help: "publish each again, then remove it" },
  discard: { type: "boolean", default: false, help: "remove each" },
});

/** Publishes the command again, as its publisher did: with the same request id nothing is sent twice. */
async function replay({ channel, closed }, { content, properties }) {
  const { contentType, contentEncoding, type, messageId, appId, headers } = properties;
  // A new command begins without the bridge's and the broker's headers.
  const own = Object.entries(headers).filter(([name]) => !/^(smsbridge-|x-)/.test(name));
  channel.publish(`${args.prefix}.commands`, headers["smsbridge-routing-key"], content, {
    contentType,
    contentEncoding,
    persistent: true,
    mandatory: true,
    type,
    messageId,
    appId,
    headers: Object.fromEntries(own),
  });
  await Promise.race([channel.waitForConfirms(), closed]);
}

run(args, async (open) => {
  const { channel } = open;
  const queue = `${args.prefix}.dead`;
  // What is there now: a replayed command may come back.
  const { messageCount } = await channel.checkQueue(queue);
  let shown = 0;
  while (shown < messageCount) {
    const letter = await channel.get(queue);
    if (!letter) break;
    shown += 1;
    const { headers, messageId } = letter.properties;
    const died = new Date(Number(headers["smsbridge-died-at"])).toISOString();
    console.log(
      `${died}  ${headers["smsbridge-application"]}  ${headers["smsbridge-routing-key"]}  ` +
        `request ${messageId ?? "(none)"}  ${headers["smsbridge-reason"]}: ${headers["smsbridge-detail"]}`,
    );
    if (args.json) console.log(`  ${letter.content}`);
    if (args.replay) await replay(open, letter);
    if (args.replay || args.discard) channel.ack(letter);
  }
  if (shown === 0) console.log("no dead letters");
  return true; // what was not acknowledged goes back to the queue
});
