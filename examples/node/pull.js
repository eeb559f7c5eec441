import { call, connect, readBridgeArguments, run } from "./bridge.js";

const DESCRIPTION = `Pulls unread delivery reports and received messages. The API gives each of them once; here they become events before
they are shown, so nothing is lost. Exit status 0 if there were at least --reports and --messages of them.`;

const args = readBridgeArguments(DESCRIPTION, "", {
  reports: { type: "string", default: "0", help: "how many are expected" },
  messages: { type: "string", default: "0", help: "how many are expected" },
});

run(async () => {
  const { reports } = await call(connect("ReportService", args), "pullDeliveryReports", { limit: 100 }, args);
  const { messages } = await call(connect("InboxService", args), "pullReceivedMessages", { limit: 100 }, args);
  if (reports.length === 0 && messages.length === 0) console.log("nothing unread");
  for (const { messageId, to, status } of reports) console.log(`report   ${messageId}  ${to}  ${status?.name}`);
  for (const { messageId, from, text } of messages) console.log(`message  ${messageId}  ${from}  ${text}`);
  return reports.length >= Number(args.reports) && messages.length >= Number(args.messages);
});
