// Prints what is wrong in an AsyncAPI document, and exits with 1 if that is anything: by AsyncAPI's own parser, and, as it compares
// no examples of version 3, by the schemas of each message's body, headers and properties.
//   node check.js FILE
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";
import addFormats from "ajv-formats";

const [file] = process.argv.slice(2);
// Worse is an error (0) or a warning (1). This is: there is a newer version of the specification.
const INFORMATION = 2;
const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
const mistakes = diagnostics
  .filter((found) => found.severity < INFORMATION)
  .map(({ range, path, message }) => `${range.start.line + 1}: ${path.join(".")}: ${message}`);

const ajv = addFormats(new Ajv({ strict: false, allErrors: true }));
function compare(what, schema, value) {
  if (schema === undefined || value === undefined || ajv.validate(schema, value)) return;
  mistakes.push(...ajv.errors.map((error) => ` ${what}${error.instancePath}: ${error.message}`));
}

for (const message of document?.components().messages() ?? []) {
  const described = message.json();
  if (!described.examples?.length) mistakes.push(` ${message.id()} has no example`);
  for (const example of described.examples ?? []) {
    const what = `${message.id()}, example ${example.name}: `;
    compare(`${what}payload`, described.payload, example.payload);
    compare(`${what}headers`, described.headers, example.headers);
  }
  for (const [name, properties] of Object.entries(described["x-amqp-example-properties"] ?? {})) {
    compare(`${message.id()}, properties of ${name}: `, described["x-amqp-properties"], properties);
  }
}

for (const mistake of mistakes) console.error(`${file}:${mistake}`);
if (mistakes.length > 0 || !document) process.exit(1);
