// The command lines that work against this simulator: curl, a bridge, a send by gRPC, a send by AMQP.
//
// Invariant: the address of the simulator is that of the page; the addresses of the bridge are those of `smsbridge demo` if it
// runs here, otherwise the bridge's defaults.

const CONTINUED = " \\\n  ";

/** A word of a shell's command line. */
export function quoted(text) {
  return /^[\w@%+=:,./-]+$/u.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The command that sends a text to this simulator. */
export function curlLine({ username, password }) {
  const body = JSON.stringify({ from: "InfoSMS", to: "41793026727", text: "Hello" });
  return [
    `curl -u ${quoted(`${username}:${password}`)} -H 'Content-Type: application/json'`,
    quoted(`${location.origin}/sms/1/text/single`),
    `-d ${quoted(body)}`,
  ].join(CONTINUED);
}

/** Names, texts and notes of all lines. */
export function connectLines({ credentials, bridge, inbound }) {
  return [
    { name: "curl", text: curlLine(credentials) },
    ...(bridge ? [] : [serveLine(credentials, inbound)]),
    grpcLine(bridge),
    amqpLine(bridge),
    { name: "Events of this page", text: `curl -N ${quoted(`${location.origin}/_sim/stream`)}` },
  ];
}

function serveLine({ username, password }, inbound) {
  return {
    name: "A bridge in front of this simulator",
    text: [
      `SMSBRIDGE_INFOBIP__USERNAME=${quoted(username)} SMSBRIDGE_INFOBIP__PASSWORD=${quoted(password)}`,
      `smsbridge serve --infobip-base-url ${quoted(location.origin)}`,
      "--http-public-url http://127.0.0.1:8080",
    ].join(CONTINUED),
    note:
      inbound.way === "pull"
        ? "Answers of phones wait in the inbox, where `smsbridge inbox` pulls them. A simulator with --inbound-url pushes them."
        : null,
  };
}

function grpcLine(bridge) {
  const address = bridge ? `--address ${quoted(`http://${bridge.grpc}`)} ` : "";
  return {
    name: "gRPC, through the bridge",
    text: `${command(bridge)} send ${address}--from InfoSMS --text 'Hello by gRPC' 41793026727`,
    note: bridge ? null : "The bridge above listens on 127.0.0.1:50051.",
  };
}

function amqpLine(bridge) {
  const [url, note] = broker(bridge);
  const prefix = bridge?.amqpPrefix ? ` --amqp-prefix ${quoted(bridge.amqpPrefix)}` : "";
  return {
    name: "AMQP, through RabbitMQ and the bridge",
    text: `${command(bridge)} send --amqp-url ${url}${prefix} --from InfoSMS --text 'Hello by AMQP' 41793026727`,
    note,
  };
}

function broker(bridge) {
  if (bridge?.amqpUrl) return [quoted(bridge.amqpUrl), null];
  if (bridge?.amqpPrefix)
    return ['"$AMQP_URL"', "AMQP_URL is the value of the demo's --amqp-url; the page does not show its password."];
  const note = bridge
    ? "This demo has no broker. `make demo` starts one; its page has the line with its address."
    : "It needs a RabbitMQ that the bridge consumes from (SMSBRIDGE_AMQP__URL of the bridge); `make demo` starts both.";
  return ["amqp://guest:guest@127.0.0.1:5672/%2f", note];
}

function command(bridge) {
  return quoted(bridge?.binary ?? "smsbridge");
}
