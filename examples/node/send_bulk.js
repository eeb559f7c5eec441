import { randomUUID } from "node:crypto";
import { call, connect, readBridgeArguments, run } from "./bridge.js";

const DESCRIPTION = `Sends many messages in one call and prints the result for each destination. Exit status 0 if all were accepted.
An invalid message is rejected alone: the others are sent.

  node send_bulk.js '41793026727=Hello Ana' '385911234567=Hello Ivo'`;

const args = readBridgeArguments(DESCRIPTION, "NUMBER=TEXT…", {
  // With the same id a call can be repeated: nothing is sent twice.
  "request-id": { type: "string", default: randomUUID(), help: "default: a new one" },
  "bulk-id": { type: "string", default: "", help: "names the bulk, to reschedule or cancel it later" },
});

/** From NUMBER=TEXT. */
function message(pair) {
  const [to, ...text] = pair.split("=");
  return { destinations: [{ to }], text: text.join("=") };
}

run(async () => {
  const request = {
    requestId: args["request-id"],
    bulkId: args["bulk-id"],
    messages: args.positionals.map(message),
  };
  const { results } = await call(connect("SmsService", args), "sendSmsBulk", request, args);
  // In the order of the messages and their destinations.
  for (const { to, messageId, outcome, status, refusal } of results) {
    console.log(`${to}  ${messageId}  ${outcome}  ${refusal?.detail ?? status?.name ?? ""}`);
    for (const { field, description } of refusal?.violations ?? []) console.log(`  ${field}: ${description}`);
  }
  return results.length > 0 && results.every(({ outcome }) => outcome === "OUTCOME_ACCEPTED");
});
