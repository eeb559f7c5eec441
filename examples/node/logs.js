import { call, connect, readBridgeArguments, run, toIso } from "./bridge.js";

const DESCRIPTION = "Pages through the API's logs of sent messages, newest first. Exit status 0 if there were at least --expect rows.";

const args = readBridgeArguments(DESCRIPTION, "", {
  to: { type: "string", default: "", help: "only messages to this number" },
  "page-size": { type: "string", default: "50", help: "rows of one call; default 50" },
  expect: { type: "string", default: "0", help: "how many rows are expected" },
});

run(async () => {
  const sms = connect("SmsService", args);
  let rows = 0;
  let pageToken = "";
  do {
    const request = { to: args.to, pageSize: Number(args["page-size"]), pageToken };
    const page = await call(sms, "listSmsLogs", request, args);
    for (const { sentAt, to, messageId, status, text } of page.logs) {
      console.log(`${toIso(sentAt)}  ${to}  ${messageId}  ${status?.name}  ${JSON.stringify(text)}`);
    }
    rows += page.logs.length;
    // A page may be empty and still have a next one.
    pageToken = page.nextPageToken;
  } while (pageToken);
  return rows >= Number(args.expect);
});
