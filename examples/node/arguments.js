// Command line arguments, with a --help that is made from their descriptions.

import { basename } from "node:path";
import { parseArgs } from "node:util";

/**
 * Reads the arguments. Each option is one of parseArgs with a `help` text; `positionals` names the other arguments, and is
 * "" where there are none. An option without a default is undefined if it is not given.
 */
export function readArguments(description, positionals, options) {
  const all = { ...options, help: { type: "boolean", short: "h", help: "print this" } };
  const name = basename(process.argv[1]);
  try {
    const { values, positionals: others } = parseArgs({ allowPositionals: true, options: withoutHelp(all) });
    if (values.help) {
      console.log(usage(name, description, positionals, all));
      process.exit(0);
    }
    if (positionals && others.length === 0) throw new Error(`${positionals} is missing`);
    if (!positionals && others.length > 0) throw new Error(`unexpected argument ${others[0]}`);
    return { ...values, positionals: others };
  } catch (error) {
    console.error(`${error.message}\nSee: node ${name} --help`);
    process.exit(2);
  }
}

function withoutHelp(options) {
  return Object.fromEntries(Object.entries(options).map(([name, { help, ...option }]) => [name, option]));
}

function usage(name, description, positionals, options) {
  const lines = Object.entries(options).map(([option, { type, help }]) => {
    const left = type === "string" ? `--${option} VALUE` : `--${option}`;
    return `  ${left.padEnd(22)} ${help}`;
  });
  return [`usage: node ${name} [OPTIONS] ${positionals}`.trimEnd(), "", description, "", ...lines].join("\n");
}
