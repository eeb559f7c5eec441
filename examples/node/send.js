// Sends a text and prints the result for each destination: node send.js --text Hello 41793026727 385911234567
// Exit status 0 if all were accepted.

import { randomUUID } from "node:crypto";
import { call, connect, readArguments, run } from "./bridge.js";

const args = readArguments({
  text: { type: "string" },
  sender: { type: "string", default: "" },
  // With the same id a call can be repeated: nothing is sent twice.
  "request-id": { type: "string", default: randomUUID() },
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
