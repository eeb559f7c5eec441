// Prints events as they happen, one a line, and connects again where it left off.
//   node follow_events.js --type 'report.#' --type inbound.received
// With --count it ends after so many events: exit status 0, or 1 if they did not come within --timeout.

import { setTimeout as sleep } from "node:timers/promises";
import { connect, grpc, readArguments, run } from "./bridge.js";

const args = readArguments({
  type: { type: "string", multiple: true, default: [] },
  since: { type: "string", default: "0" }, // seconds ago
  count: { type: "string", default: "Infinity" },
});

// Codes that speak of the request: waiting does not make it better.
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
  // "Now" would be another moment after a lost connection: a time misses nothing.
  const began = Date.now() - Number(args.since) * 1000;
  let start = { since: { seconds: Math.floor(began / 1000), nanos: (began % 1000) * 1e6 } };
  let seen = 0;
  for (;;) {
    const stream = client.streamEvents({ ...start, filter: { types: args.type } }, metadata(), { deadline });
    try {
      for await (const { event } of stream) {
        console.log(JSON.stringify(event));
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
      console.error(`${error.message}: connecting again`);
    } finally {
      stream.cancel();
    }
    await sleep(1000);
  }
});
