import { consume, readBrokerArguments, run } from "./broker.js";
import { show } from "./events.js";

const DESCRIPTION = `Reads the stream of all events from an offset. Reading removes nothing: any number of programs can read it again.
With --count it ends after so many events: exit status 0, or 1 if they did not come within --timeout.

  node amqp_stream.js --offset first --count 10`;

const args = readBrokerArguments(DESCRIPTION, "", {
  offset: { type: "string", default: "next", help: "first, last, next or a number; default next" },
  since: { type: "string", help: "begin about so many seconds ago, instead of --offset" },
  count: { type: "string", default: "Infinity", help: "end after so many events; default: never" },
  json: { type: "boolean", default: false, help: "print whole events as JSON" },
});

/** The consumer argument x-stream-offset: a position, an offset, or a time. */
function startOffset() {
  if (args.since !== undefined) {
    return { "!": "timestamp", value: Math.trunc(Date.now() / 1000 - Number(args.since)) };
  }
  return /^\d+$/.test(args.offset) ? Number(args.offset) : args.offset;
}

run(args, async (open) => {
  const count = Number(args.count);
  // A stream needs both: a prefetch count, and acknowledgements, which let the broker deliver more.
  await open.channel.prefetch(100);
  const start = startOffset();
  const timeout = Number.isFinite(count) ? args.timeout : undefined;
  let seen = 0;
  const options = { arguments: { "x-stream-offset": start } };
  await consume(open, `${args.prefix}.events.log`, options, timeout, (message) => {
    const at = message.properties.headers["x-stream-offset"];
    open.channel.ack(message);
    // The broker begins with the chunk that contains the offset.
    if (typeof start === "number" && at < start) return false;
    // A real consumer stores the offset with what it processed, and begins with the next one.
    console.log(`${at}  ${show(JSON.parse(message.content), args.json)}`);
    seen += 1;
    return seen >= count;
  });
  if (seen < count) console.error(`${seen} of ${count} events within ${args.timeout} s`);
  return seen >= count;
});
