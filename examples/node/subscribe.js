import { connect, grpc, readBridgeArguments, run } from "./bridge.js";
import { show } from "./events.js";

const DESCRIPTION = `Consumes a durable subscription: the bridge keeps its position, and redelivers each event until it is acknowledged.
The first run creates the subscription, which begins with the next event. --count 0 does only that. With --count it ends
after so many events: exit status 0, or 1 if they did not come within --timeout.`;

const args = readBridgeArguments(DESCRIPTION, "", {
  name: { type: "string", default: "example", help: "the subscription: a-z, 0-9 and -; default example" },
  type: { type: "string", multiple: true, default: [], help: "such as 'report.#'; may be repeated" },
  count: { type: "string", default: "Infinity", help: "end after so many events; default: never" },
  json: { type: "boolean", default: false, help: "print whole events as JSON" },
});

run(async () => {
  const { client, metadata } = connect("EventService", args);
  const count = Number(args.count);
  const deadline = Number.isFinite(count) ? Date.now() + args.timeout * 1000 : undefined;
  const stream = client.subscribe(metadata(), { deadline });
  stream.write({
    // maxOutstanding: unacknowledged deliveries at a time
    start: { name: args.name, filter: { types: args.type }, maxOutstanding: 10 },
  });
  let seen = 0;
  try {
    for await (const { ready, delivery } of stream) {
      if (ready) {
        console.log(`${ready.created ? "created" : "continued"} ${args.name}`);
      } else if (seen < count) {
        // Process the event first. An event that is not acknowledged is delivered again.
        console.log(show(delivery.event, args.json));
        stream.write({ acknowledge: { deliveryIds: [delivery.deliveryId] } });
        seen += 1;
      }
      // The bridge reads what was sent before, then ends the stream.
      if (seen >= count && !stream.writableEnded) stream.end();
    }
  } catch (error) {
    if (error.code !== grpc.status.DEADLINE_EXCEEDED) throw error;
    console.error(`${seen} of ${count} events within ${args.timeout} s`);
  }
  return seen >= count;
});
