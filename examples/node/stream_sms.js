import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { connect, readBridgeArguments, run } from "./bridge.js";

const DESCRIPTION = `Sends many messages on one stream and prints each result as it comes. Exit status 0 if all were accepted.
The fastest way to send: thousands may be in flight, and the answers come in any order.

  node stream_sms.js '41793026727=Hello Ana' '385911234567=Hello Ivo'`;

const args = readBridgeArguments(DESCRIPTION, "NUMBER=TEXT…");

/** Writes all requests, no faster than the bridge reads them, then closes our side. */
async function write(stream, pairs) {
  for (const [index, pair] of pairs.entries()) {
    const [to, ...text] = pair.split("=");
    const request = {
      // Store the request id with your own record: with it a message can be repeated after a lost connection.
      requestId: randomUUID(),
      message: { destinations: [{ to }], text: text.join("=") },
    };
    // The correlation is ours: it comes back with the results.
    if (!stream.write({ correlation: String(index), request })) await once(stream, "drain");
  }
  stream.end();
}

run(async () => {
  const { client, metadata } = connect("SmsService", args);
  const stream = client.streamSms(metadata(), { deadline: Date.now() + args.timeout * 1000 });
  const writing = write(stream, args.positionals);
  writing.catch(() => {}); // the loop below fails with the same error
  const missing = new Set(args.positionals.keys());
  let accepted = 0;
  // The bridge answers what is in flight and ends the stream.
  for await (const { correlation, results } of stream) {
    missing.delete(Number(correlation));
    for (const { to, messageId, outcome, status, refusal } of results) {
      console.log(`${correlation}  ${to}  ${messageId}  ${outcome}  ${refusal?.detail ?? status?.name ?? ""}`);
      if (outcome === "OUTCOME_ACCEPTED") accepted += 1;
    }
  }
  await writing;
  if (missing.size > 0) console.error(`no answer for ${[...missing]}`);
  return accepted === args.positionals.length;
});
