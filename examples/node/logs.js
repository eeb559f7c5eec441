// Pages through the API's logs of sent messages, newest first. Exit status 0 if there were at least --expect rows.

import { call, connect, readArguments, run, toDate } from "./bridge.js";

const args = readArguments({
  to: { type: "string", default: "" },
  "page-size": { type: "string", default: "50" },
  expect: { type: "string", default: "0" },
});

run(async () => {
  const sms = connect("SmsService", args);
  let rows = 0;
  let pageToken = "";
  do {
    const request = { to: args.to, pageSize: Number(args["page-size"]), pageToken };
    const page = await call(sms, "listSmsLogs", request, args);
    for (const { sentAt, to, messageId, status } of page.logs) {
      console.log(`${toDate(sentAt)?.toISOString()}  ${to}  ${messageId}  ${status?.name}`);
    }
    rows += page.logs.length;
    // A page may be empty and still have a next one.
    pageToken = page.nextPageToken;
  } while (pageToken);
  return rows >= Number(args.expect);
});
