// Makes every `/sms/1/…` call of two unmodified npm clients against the simulator and prints, as one line of JSON,
// the result of each call. tests/it/clients.rs runs this script and checks the results.
"use strict";

const legacy = require("infobip");
const { Infobip, AuthType } = require("@infobip-api/sdk");

const { SIMULATOR_URL: url, SIMULATOR_USERNAME: username, SIMULATOR_PASSWORD: password } = process.env;
const apiKey = process.env.SIMULATOR_API_KEY;

/** A request that no client makes: the simulator's own control, or a way of sending that the client lacks. */
async function post(path, body) {
  const authorization = "Basic " + Buffer.from(`${username}:${password}`).toString("base64");
  const response = await fetch(url + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: authorization },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`POST ${path} answered ${response.status}: ${await response.text()}`);
}

/** The SDK answers errors instead of throwing them. */
function answered(result) {
  if (result.response) return { status: result.response.status, body: result.response.data };
  if (result instanceof Error) throw result;
  return { status: result.status, body: result.data };
}

function legacyClient(secret) {
  const client = new legacy.Infobip(username, secret);
  client.config.host = new URL(url).host;
  return client;
}

async function main() {
  const results = {};

  const old = legacyClient(password);
  results.send = await old.SMS.send({ from: "InfoSMS", to: "41793026727", text: "My first Infobip SMS" });
  results.sendBulk = await old.SMS.sendBulk([
    { from: "WineShop", to: "41793026727", text: "Hi Jenny, drop by our store for a free degustation!" },
    { from: "WineShop", to: ["41793026834", "41793026835"], text: "Hey Mike, try it for free!" },
  ]);
  results.refused = await legacyClient("wrong").SMS.send({ from: "InfoSMS", to: "41793026727", text: "x" }).then(
    () => "accepted",
    (body) => body,
  );

  const sdk = new Infobip({ baseUrl: url, authType: AuthType.Basic, username, password }).channels.sms;
  const query = { type: "query", from: "InfoSMS", to: ["41793026727", "41793026834"], text: "By query" };
  results.query = answered(await sdk.send(query));
  results.preview = answered(
    await sdk.preview({ text: "Let's see how many characters remain unused in this message.", languageCode: "TR" }),
  );

  await post("/_sim/clock", { advanceMs: 600000 });
  results.reports = answered(await sdk.reports.get({ messageId: results.send.messages[0].messageId, limit: 10 }));
  results.reportsAgain = answered(await sdk.reports.get({ messageId: results.send.messages[0].messageId }));
  results.logs = answered(await sdk.logs.get({ from: "WineShop", limit: 2 }));

  await post("/_sim/inbound", { from: "385916242493", to: "385921004026", text: "QUIZ Correct answer is Paris" });
  results.inbox = answered(await sdk.get(10));

  await post("/sms/1/text/advanced", {
    bulkId: "node-bulk",
    messages: [{ destinations: [{ to: "41793026727" }], text: "Later", sendAt: process.env.SEND_AT }],
  });
  results.scheduled = answered(await sdk.scheduled.get("node-bulk"));
  results.rescheduled = answered(await sdk.scheduled.reschedule("node-bulk", process.env.SEND_AT_LATER));
  results.status = answered(await sdk.status.get("node-bulk"));
  results.statusUpdated = answered(await sdk.status.update("node-bulk", "CANCELED"));

  const byKey = new Infobip({ baseUrl: url, authType: AuthType.ApiKey, apiKey }).channels.sms;
  results.byKey = answered(await byKey.logs.get({ limit: 1 }));

  console.log(JSON.stringify(results));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
