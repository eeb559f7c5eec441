// What the examples share: the contract, the way to the bridge, and how its errors are shown.

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PROTO = fileURLToPath(new URL("../../proto", import.meta.url));

const { smsbridge } = grpc.loadPackageDefinition(
  protoLoader.loadSync(
    ["sms", "report", "inbox", "lookup", "event"].map((name) => `smsbridge/v1/${name}_service.proto`),
    // Names of enums instead of numbers, 64-bit numbers as strings, absent fields with their defaults.
    { includeDirs: [PROTO], keepCase: false, enums: String, longs: String, defaults: true, oneofs: true },
  ),
);

/** The arguments, with those that every example has. */
export function readArguments(options = {}) {
  const common = {
    address: { type: "string", default: process.env.SMSBRIDGE_ADDRESS || "http://127.0.0.1:50051" },
    token: { type: "string", default: process.env.SMSBRIDGE_TOKEN || "" },
    timeout: { type: "string", default: "30" }, // seconds
  };
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options: { ...common, ...options } });
    return { ...values, timeout: Number(values.timeout), positionals };
  } catch (error) {
    console.error(error.message);
    process.exit(64);
  }
}

/** A client of a service, such as `SmsService`. */
export function connect(service, { address, token }) {
  const [, scheme, authority] = /^(?:(\w+):\/\/)?(.*)$/.exec(address);
  const credentials = scheme === "https" ? grpc.credentials.createSsl() : grpc.credentials.createInsecure();
  const client = new smsbridge.v1[service](authority, credentials);
  const metadata = () => {
    const metadata = new grpc.Metadata();
    if (token) metadata.set("authorization", `Bearer ${token}`);
    return metadata;
  };
  return { client, metadata };
}

/** Calls a method that has one answer. */
export function call({ client, metadata }, method, request, { timeout }) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + timeout * 1000;
    client[method](request, metadata(), { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** Ends the process: 0 if `main` answers true, 1 if it does not or a call fails. */
export async function run(main) {
  try {
    process.exitCode = (await main()) ? 0 : 1;
  } catch (error) {
    console.error(error.code in grpc.status ? `${grpc.status[error.code]}: ${error.details}` : error);
    process.exitCode = 1;
  }
}

/** A timestamp of the contract as a date. */
export function toDate(timestamp) {
  return timestamp && new Date(Number(timestamp.seconds) * 1000 + timestamp.nanos / 1e6);
}

export { grpc };
