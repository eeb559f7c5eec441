import { setTimeout as sleep } from "node:timers/promises";
import { connect, explain, grpc, readBridgeArguments, run } from "./bridge.js";
import { show } from "./events.js";

const DESCRIPTION = `Prints events as they happen, one line for each, and connects again where it left off.
With --count it ends after so many events: exit status 0, or 1 if they did not come within --timeout.

  node follow_events.js --type 'report.#' --type inbound.received`;

const args = readBridgeArguments(DESCRIPTION, "", {
  type: { type: "string", multiple: true, default: [], help: "such as 'report.#'; may be repeated" },
  since: { type: "string", default: "0", help: "begin so many seconds ago; default: now" },
  cursor: { type: "string", help: "begin after the event with this cursor" },
  count: { type: "string", default: "Infinity", help: "end after so many events; default: never" },
  json: { type: "boolean", default: false, help: "print whole events as JSON" },
});

// Codes about the request: repeating it does not help.
const FINAL = new Set([
  grpc.status.INVALID_ARGUMENT,
  grpc.status.OUT_OF_RANGE,
  grpc.status.PERMISSION_DENIED,
  grpc.status.UNAUTHENTICATED,
  grpc.status.UNIMPLEMENTED,
]);

run(async () => {
  const { client, metadata } = connect("EventService", args);
  const count = Number(args.count);
  const deadline = Number.isFinite(count) ? Date.now() + args.timeout * 1000 : undefined;
  // Without a start, events would be missed while it connects again.
  const began = Date.now() - Number(args.since) * 1000;
  let start = { since: { seconds: Math.floor(began / 1000), nanos: (began % 1000) * 1e6 } };
  if (args.cursor) start = { cursor: args.cursor };
  let seen = 0;
  for (;;) {
    const stream = client.streamEvents({ ...start, filter: { types: args.type } }, metadata(), { deadline });
    try {
      for await (const { event } of stream) {
        console.log(show(event, args.json));
        // A real consumer stores the cursor once it has processed the event.
        start = { cursor: event.cursor };
        seen += 1;
        if (seen >= count) return true;
      }
    } catch (error) {
      if (FINAL.has(error.code)) throw error;
      if (deadline && Date.now() >= deadline) {
        console.error(`${seen} of ${count} events within ${args.timeout} s`);
        return false;
      }
      console.error(`${explain(error)}: connecting again`);
    } finally {
      stream.cancel();
    }
    await sleep(1000);
  }
});
