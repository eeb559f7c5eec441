import { consume, readBrokerArguments, run } from "./broker.js";
import { show } from "./events.js";

const DESCRIPTION = `Consumes events from a durable queue: each is acknowledged once it is processed.
The first run declares the queue, which gets the events from then on. --count 0 does only that. With --count it ends after
so many events: exit status 0, or 1 if they did not come within --timeout.`;

const args = readBrokerArguments(DESCRIPTION, "", {
  queue: { type: "string", default: "example.events", help: "default example.events" },
  bind: {
    type: "string",
    multiple: true,
    default: ["#"],
    help: "binding key, such as 'report.#' or '*.*.billing'; default '#'; may be repeated",
  },
  count: { type: "string", default: "Infinity", help: "end after so many events; default: never" },
  json: { type: "boolean", default: false, help: "print whole events as JSON" },
  delete: { type: "boolean", default: false, help: "delete the queue at the end" },
});

run(args, async (open) => {
  const count = Number(args.count);
  const { channel } = open;
  // Without x-max-length: a full queue with reject-publish would not get events, drop-head would lose them.
  await channel.assertQueue(args.queue, { durable: true, arguments: { "x-queue-type": "quorum" } });
  for (const key of args.bind) await channel.bindQueue(args.queue, `${args.prefix}.events`, key);
  await channel.prefetch(100);

  const seen = new Set();
  if (count > 0) {
    const timeout = Number.isFinite(count) ? args.timeout : undefined;
    await consume(open, args.queue, {}, timeout, (message) => {
      // An event may come twice, with the same id. A real consumer keeps the ids with what it stored.
      if (!seen.has(message.properties.messageId)) {
        console.log(show(JSON.parse(message.content), args.json));
        seen.add(message.properties.messageId);
      }
      channel.ack(message);
      return seen.size >= count;
    });
  }
  if (args.delete) await channel.deleteQueue(args.queue);
  if (seen.size < count) console.error(`${seen.size} of ${count} events within ${args.timeout} s`);
  return seen.size >= count;
});
