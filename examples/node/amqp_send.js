import { randomUUID } from "node:crypto";
import { consume, publish, readBrokerArguments, run } from "./broker.js";
import { show } from "./events.js";

const DESCRIPTION = `Publishes a command to the broker, and consumes the events about it from a queue of its own.
Exit status 0 if each destination was accepted and delivered within --timeout.

  node amqp_send.js --text Hello 41793026727 385911234567`;

const args = readBrokerArguments(DESCRIPTION, "NUMBER…", {
  text: {
    type: "string",
    multiple: true,
    default: [],
    help: "the text; repeated: a bulk, each text is a message to all numbers",
  },
  sender: { type: "string", default: "", help: "default: the application's" },
  application: { type: "string", help: "who sends (property app_id); default: `default`" },
  urgent: { type: "boolean", default: false, help: "send before everything that is not urgent" },
  expires: { type: "string", help: "do not send later than so many seconds from now" },
  // With the same id a command can be repeated: nothing is sent twice.
  "request-id": { type: "string", default: randomUUID(), help: "default: a new one" },
});
const requestId = args["request-id"];

/** The type and the body of the command: the same messages as in gRPC, as proto JSON. */
function command() {
  const destinations = args.positionals.map((to) => ({ to }));
  const messages = args.text.map((text) => ({ from: args.sender, destinations, text }));
  return messages.length === 1
    ? ["smsbridge.v1.SendSmsRequest", { message: messages[0] }]
    : ["smsbridge.v1.SendSmsBulkRequest", { messages }];
}

/** Publishes the command. */
async function publishCommand(open) {
  const [type, body] = command();
  const routingKey = args.urgent ? "sms.send.urgent" : "sms.send";
  await publish(open, `${args.prefix}.commands`, routingKey, Buffer.from(JSON.stringify(body)), {
    contentType: "application/json",
    type,
    messageId: requestId, // the request id
    appId: args.application,
    expiration: args.expires === undefined ? undefined : String(Math.trunc(Number(args.expires) * 1000)),
  });
}

run(args, async (open) => {
  // Bound before the command is published, so that no event is missed. The routing key is {type}.{application}.
  const { queue } = await open.channel.assertQueue("", { exclusive: true });
  for (const type of ["send.*", "report.*", "command.invalid"]) {
    await open.channel.bindQueue(queue, `${args.prefix}.events`, `${type}.${args.application ?? "default"}`);
  }
  await publishCommand(open);
  console.log(`published ${requestId}`);

  const expected = args.positionals.length * args.text.length;
  const mine = new Set();
  const delivered = new Set();
  let reports = [];
  let failed = false;
  await consume(open, queue, { noAck: true }, args.timeout, ({ properties, content }) => {
    const event = JSON.parse(content);
    if (event.report) {
      reports.push(event);
    } else if (properties.correlationId === requestId) {
      console.log(show(event));
      failed = event.type !== "send.accepted";
      if (!failed) mine.add(event.result.messageId);
    }
    // A report may come before the result of its message. The queue also has the reports of other messages.
    for (const event of reports.filter(({ report }) => mine.has(report.messageId))) {
      console.log(show(event));
      if (event.type === "report.delivered") delivered.add(event.report.messageId);
    }
    reports = reports.filter(({ report }) => !mine.has(report.messageId));
    return failed || delivered.size === expected;
  });
  if (!failed && delivered.size < expected) {
    console.error(`${mine.size} accepted and ${delivered.size} delivered of ${expected} in ${args.timeout} s`);
  }
  return !failed && delivered.size === expected;
});
