// What the gRPC examples share: the contract, the connection to the bridge, and how its errors are shown.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import { readArguments } from "./arguments.js";
import { details } from "./error_details.js";

const PROTO = fileURLToPath(new URL("../../proto", import.meta.url));

const { smsbridge } = grpc.loadPackageDefinition(
  protoLoader.loadSync(
    ["sms", "report", "inbox", "lookup", "event"].map((name) => `smsbridge/v1/${name}_service.proto`),
    // Names of enums instead of numbers, 64-bit numbers as strings, absent fields with their defaults.
    { includeDirs: [PROTO], keepCase: false, enums: String, longs: String, defaults: true },
  ),
);

/** The arguments, with the options that every example has. */
export function readBridgeArguments(description, positionals = "", options = {}) {
  const args = readArguments(description, positionals, {
    ...options,
    address: {
      type: "string",
      default: process.env.SMSBRIDGE_ADDRESS || "127.0.0.1:50051",
      help: "HOST:PORT, http://HOST:PORT, or https://HOST:PORT for TLS (environment: SMSBRIDGE_ADDRESS)",
    },
    token: {
      type: "string",
      default: process.env.SMSBRIDGE_TOKEN || "",
      help: "the bearer token (environment: SMSBRIDGE_TOKEN)",
    },
    "ca-file": { type: "string", help: "the CA (PEM) that signed the bridge's certificate" },
    "cert-file": { type: "string", help: "the client certificate (PEM)" },
    "key-file": { type: "string", help: "the key of the client certificate (PEM)" },
    timeout: { type: "string", default: "30", help: "seconds; default 30" },
  });
  return { ...args, timeout: Number(args.timeout) };
}

/** A client of a service, such as `SmsService`, and the credentials for each call. */
export function connect(service, args) {
  const [, scheme, authority] = /^(?:(\w+):\/\/)?(.*?)\/*$/.exec(args.address);
  const client = new smsbridge.v1[service](authority, credentials(scheme, args));
  const metadata = () => {
    const metadata = new grpc.Metadata();
    if (args.token) metadata.set("authorization", `Bearer ${args.token}`);
    return metadata;
  };
  return { client, metadata };
}

/** With a certificate file, an address without a scheme means TLS. */
function credentials(scheme, args) {
  const files = [args["ca-file"], args["key-file"], args["cert-file"]];
  if (scheme === "https" || (!scheme && files.some(Boolean))) {
    return grpc.credentials.createSsl(...files.map((file) => (file ? readFileSync(file) : null)));
  }
  if (files.some(Boolean)) {
    throw new Error(`${args.address} is without TLS: use https:// with --ca-file, --cert-file and --key-file`);
  }
  return grpc.credentials.createInsecure();
}

/** Calls a method that has one answer. */
export function call({ client, metadata }, method, request, { timeout }) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + timeout * 1000;
    client[method](request, metadata(), { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** An error with its google.rpc details: the stable reason, each mistake, when to try again. */
export function explain(error) {
  if (!(error.code in grpc.status)) return error.message;
  const lines = [`${grpc.status[error.code]}: ${error.details}`];
  const { info, mistakes, retryAfter } = details(error);
  if (info) lines.push(`  reason: ${info.reason} ${JSON.stringify(info.metadata)}`.replace(" {}", ""));
  for (const { field, description } of mistakes) lines.push(`  ${field}: ${description}`);
  if (retryAfter !== undefined) lines.push(`  try again in ${retryAfter} s`);
  return lines.join("\n");
}

/** Ends the process: 0 if `main` answers true, 1 if it does not or a call fails. */
export async function run(main) {
  try {
    process.exitCode = (await main()) ? 0 : 1;
  } catch (error) {
    console.error(explain(error));
    process.exitCode = 1;
  }
}

/** A timestamp of the contract in ISO 8601. */
export function toIso(timestamp) {
  return timestamp ? new Date(Number(timestamp.seconds) * 1000 + timestamp.nanos / 1e6).toISOString() : "";
}

export { grpc };
