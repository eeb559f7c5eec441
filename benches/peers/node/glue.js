// Hand-written glue between a command queue and the API, as a team would write it: one REST request for each command, one confirmed
// event for each result, one acknowledgement for each command. It validates nothing and repeats nothing.
//
//   node glue.js BROKER_URL PREFIX API_URL IN_FLIGHT COMMANDS
//
// Prints microseconds from the first delivery to the last acknowledgement, milliseconds of processor time, and bytes of memory at
// its peak.
import amqp from "amqplib";
import { Pool } from "undici";

async function main() {
  const [url, prefix, api, inFlight, commands] = process.argv.slice(2);
  const pool = new Pool(api, { connections: Math.min(Number(inFlight), 128), pipelining: 1 });
  const headers = {
    authorization: `Basic ${Buffer.from("demo:demo").toString("base64")}`,
    "content-type": "application/json",
  };
  const events = await (await amqp.connect(url)).createConfirmChannel();
  const queue = await (await amqp.connect(url)).createChannel();
  await queue.prefetch(Number(inFlight));

  let begun;
  let handled = 0;
  let finished;
  const allHandled = new Promise((resolve) => {
    finished = resolve;
  });

  async function handle(delivery) {
    const { message } = JSON.parse(delivery.content);
    const messageId = `default.${delivery.properties.messageId}`;
    const destinations = message.destinations.map(({ to }) => ({ to, messageId }));
    const response = await pool.request({
      path: "/sms/1/text/advanced",
      method: "POST",
      headers,
      body: JSON.stringify({ messages: [{ from: message.from, destinations, text: message.text }] }),
    });
    const { messages } = await response.body.json();
    await new Promise((resolve, reject) => {
      events.publish(
        `${prefix}.events`,
        "send.accepted.default",
        Buffer.from(JSON.stringify({ type: "send.accepted", time: new Date(), messageId, row: messages[0] })),
        { persistent: true, messageId, contentType: "application/json" },
        (error) => (error ? reject(error) : resolve()),
      );
    });
    queue.ack(delivery);
    handled += 1;
    if (handled === Number(commands)) finished();
  }

  await queue.consume(`${prefix}.send.normal`, (delivery) => {
    begun ??= { at: process.hrtime.bigint(), cpu: process.cpuUsage() };
    handle(delivery).catch((error) => {
      console.error(error);
      process.exit(1);
    });
  });
  await allHandled;
  const cpu = process.cpuUsage(begun.cpu);
  const micros = (process.hrtime.bigint() - begun.at) / 1000n;
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  console.log(`${micros} ${Math.round((cpu.user + cpu.system) / 1000)} ${peakBytes}`);
  process.exit(0);
}

main();
