import { randomUUID } from "node:crypto";
import { call, connect, readBridgeArguments, run } from "./bridge.js";

const DESCRIPTION = `Sends a text and prints the result for each destination. Exit status 0 if all were accepted.

  node send.js --text Hello 41793026727 385911234567`;

const args = readBridgeArguments(DESCRIPTION, "NUMBER…", {
  text: { type: "string", default: "", help: "the text" },
  sender: { type: "string", default: "", help: "default: the application's" },
  // With the same id a call can be repeated: nothing is sent twice.
  "request-id": { type: "string", default: randomUUID(), help: "default: a new one" },
});

run(async () => {
  const sms = connect("SmsService", args);
  const request = {
    requestId: args["request-id"],
    message: {
      from: args.sender,
      destinations: args.positionals.map((to) => ({ to })),
      text: args.text,
    },
  };
  const { results } = await call(sms, "sendSms", request, args);
  for (const { to, messageId, outcome, status, refusal } of results) {
    console.log(`${to}  ${messageId}  ${outcome}  ${refusal?.detail ?? status?.name ?? ""}`);
  }
  return results.length > 0 && results.every(({ outcome }) => outcome === "OUTCOME_ACCEPTED");
});
