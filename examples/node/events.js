// One line for an event. gRPC and the broker carry the same event; their times differ, as proto-loader makes objects of them.

/** A short line, or the whole event as JSON. */
export function show(event, whole = false) {
  if (whole) return JSON.stringify(event, (_, value) => (isTimestamp(value) ? toIso(value) : (value ?? undefined)));
  return `${toIso(event.time)}  ${event.type}  ${event.application}  ${summary(event)}`;
}

/** What the payload says. Exactly one of these fields is set; later versions may add others. */
function summary({ result, report, received, click, lookup, invalidCommand, requestId }) {
  if (result) return `${result.to ?? ""}  ${result.messageId ?? ""}  ${result.refusal?.reason ?? result.status?.name ?? ""}`;
  if (report) return `${report.to}  ${report.messageId}  ${report.status?.name}`;
  if (received) return `${received.from} to ${received.to}  ${JSON.stringify(received.text ?? "")}`;
  if (click) return `${click.recipient ?? ""}  ${click.url ?? ""}`;
  if (lookup) return `${lookup.to}  ${lookup.mccMnc ?? ""}`;
  if (invalidCommand) {
    const { reason, detail, violations = [] } = invalidCommand;
    const mistakes = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
    return `request ${requestId ?? ""}  ${reason}: ${mistakes || detail}`;
  }
  return "";
}

const isTimestamp = (value) => value !== null && typeof value === "object" && "seconds" in value && "nanos" in value;

function toIso(time) {
  const date = isTimestamp(time) ? new Date(Number(time.seconds) * 1000 + time.nanos / 1e6) : new Date(time);
  return date.toISOString();
}
