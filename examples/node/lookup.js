// Asks what is known of numbers: node lookup.js 41793026727 385911234567
// Exit status 0 if each number has an answer.

import { call, connect, readArguments, run } from "./bridge.js";

const args = readArguments();

run(async () => {
  const lookup = connect("LookupService", args);
  const { results } = await call(lookup, "lookupNumbers", { to: args.positionals }, args);
  for (const { to, status, mccMnc, originalNetwork } of results) {
    console.log(`${to}  ${status?.name}  ${mccMnc}  ${originalNetwork?.networkName ?? ""}`);
  }
  return results.length === args.positionals.length;
});
