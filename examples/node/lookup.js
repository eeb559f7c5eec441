import { call, connect, readBridgeArguments, run } from "./bridge.js";

const DESCRIPTION = `Asks what is known of numbers. Exit status 0 if each number has an answer.

  node lookup.js 41793026727 385911234567`;

const args = readBridgeArguments(DESCRIPTION, "NUMBER…");

run(async () => {
  const lookup = connect("LookupService", args);
  const { results } = await call(lookup, "lookupNumbers", { to: args.positionals }, args);
  for (const { to, status, mccMnc, originalNetwork } of results) {
    console.log(`${to}  ${status?.name}  ${mccMnc}  ${originalNetwork?.networkName ?? ""}`);
  }
  return results.length === args.positionals.length;
});
