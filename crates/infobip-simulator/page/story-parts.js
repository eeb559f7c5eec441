// The parts of a message's story. Each is a function of the answer of `/_sim/messages/{id}`: null if there is nothing to show,
// otherwise the data it depends on as JSON, and its nodes.
//
// Neighbours: `story` keeps them in the document, `timeline` is the first part.

import { h, tableHead } from "./dom.js";
import { duration, fully, hexPairs, indented, plural, shortDay, withMilliseconds } from "./format.js";
import { isolated, marked } from "./plain-text.js";
import { answerWord, part } from "./timeline.js";

const REPORT_WORDS = {
  none: "no report yet",
  waiting: "waits to be pulled",
  pulled: "was pulled",
  pushing: "is being pushed",
  pushed: "was pushed",
  lost: "lost: every push failed",
  dropped: "dropped: nobody pulled it in time",
};

function list(rows) {
  const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "");
  return h(
    "dl",
    { class: "facts" },
    shown.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
  );
}

/** What the message is. */
export function facts({ message: m, rows }) {
  const data = { ...m, rows };
  return part(data, () =>
    list([
      [m.direction === "in" ? "To" : "From", isolated(m.direction === "in" ? m.receiver : m.sender)],
      [m.direction === "in" ? "Phone" : "To", isolated(m.number)],
      ["Status", m.status && `${m.status.name} (${m.status.id}): ${m.status.description}`],
      ["Error", m.error?.id ? `${m.error.name} (${m.error.id}): ${m.error.description}` : null],
      [
        "Encoding",
        [
          m.encoding.name,
          `data coding ${m.encoding.dataCoding}`,
          m.encoding.table,
          m.encoding.transliteration && `transliteration ${m.encoding.transliteration}`,
        ]
          .filter(Boolean)
          .join(", "),
      ],
      [
        "Parts",
        [
          m.parts > 1 ? `${m.parts}, concatenated` : m.parts,
          m.charactersRemaining !== null && m.charactersRemaining !== undefined && `${m.charactersRemaining} left in the last`,
        ]
          .filter(Boolean)
          .join(", "),
      ],
      ["Characters", m.binary ? null : m.characters],
      ["Octets", m.binary && `${m.binary.octets}, ESM class ${m.binary.esmClass}`],
      ["Flash", m.flash && "shown at once, not stored by the phone"],
      ["Keyword", m.keyword && [isolated(m.keyword), ", then: ", isolated(m.cleanText)]],
      ["Scheduled for", m.scheduledForMs && fully(m.scheduledForMs)],
      ["Valid until", m.expiresAtMs && fully(m.expiresAtMs)],
      ["Received", m.receivedAtMs && fully(m.receivedAtMs)],
      [
        "Took",
        m.direction === "out" && m.doneAtMs && m.state !== "rejected" && duration(Math.max(0, m.doneAtMs - m.acceptedAtMs)),
      ],
      ["Phone got it", m.direction === "out" && (m.handsetDeliveries === 1 ? "once" : `${m.handsetDeliveries ?? 0} times`)],
      ["Price", m.direction === "out" && `${m.pricePerMessage} ${m.currency}`],
      ["Bulk id", m.bulkId && h("code", null, marked(m.bulkId))],
      ["Rows with this id", rows?.length > 1 && rows.length],
      [
        "Short links",
        m.links?.length > 0 &&
          m.links.map((link) =>
            h("div", null, h("code", null, link.short), " → ", isolated(link.target), `, ${plural(link.clicks, "click")}`),
          ),
      ],
    ]),
  );
}

/** Pushes of its reports, with every attempt. */
export function pushes({ pushes: all }) {
  if (all.length === 0) return null;
  return part(all, () => all.map(onePush));
}

export function onePush(push) {
  const attempts = push.attempts.map((attempt, index) =>
    h(
      "tr",
      null,
      h("td", null, index + 1),
      h("td", { title: fully(attempt.atMs) }, `${shortDay(attempt.atMs)}, ${withMilliseconds(attempt.atMs)}`),
      h("td", null, attempt.status === null ? "no answer" : attempt.status),
    ),
  );
  return h(
    "div",
    { class: "push" },
    h(
      "div",
      { class: "push-head" },
      h("span", { class: `badge ${push.state}` }, push.state),
      h("span", null, push.kind),
      push.duplicateOf === undefined ? null : h("span", { class: "muted" }, `a duplicate of push ${push.duplicateOf}`),
    ),
    h("code", { class: "address" }, marked(push.url)),
    attempts.length > 0
      ? h(
          "table",
          null,
          tableHead("Attempt", "Time", "Answer"),
          h("tbody", null, attempts),
        )
      : h("p", { class: "muted" }, "No attempt yet."),
    push.nextAttemptMs
      ? h(
          "p",
          { class: "muted" },
          `Next attempt ${fully(push.nextAttemptMs)}, ${plural(push.attemptsLeft, "attempt")} left. An advance of the clock makes it due.`,
        )
      : null,
  );
}

/** What became of its report. */
export function receipt({ report, message }) {
  if (!report) return null;
  return part([report, message.report], () =>
    list([
      ["Way", { pull: "pull: it waits until a client asks", push: "push to a URL", none: "none" }[report.way]],
      ["State", REPORT_WORDS[report.state] ?? report.state],
      ["Ready", report.readyAtMs && fully(report.readyAtMs)],
      ["Taken", report.takenAtMs && fully(report.takenAtMs)],
    ]),
  );
}

/** A body of a request or of an answer. */
export function body(name, content) {
  if (!content) return h("div", null, h("h3", null, name), h("p", { class: "muted" }, "not kept"));
  const size = `${plural(content.bytes, "byte")}${content.cut ? ", cut" : ""}`;
  return h(
    "div",
    { class: "body-box" },
    h("h3", null, name, h("span", { class: "muted" }, ` ${content.contentType ?? ""} · ${size}`)),
    h("pre", { tabindex: 0, role: "group", "aria-label": name }, marked(indented(content.text))),
  );
}

/** The request that sent it, as it was received, and the answer. */
export function requestPart({ request, otherRequests, message }) {
  if (!request) {
    return message.direction === "in"
      ? null
      : part(null, () => h("p", { class: "muted" }, "The request is no longer in the log."));
  }
  const { destination } = request;
  return part([request, otherRequests], () => [
    h(
      "p",
      { class: "request-line" },
      h("code", null, `${request.method} ${request.path}`),
      request.query ? h("code", null, marked(`?${request.query}`)) : null,
    ),
    list([
      ["Received", fully(request.atMs)],
      ["Answer", answerWord(request)],
      [
        "Destination",
        destination && `${destination.index + 1} of ${destination.of}${destination.pointer ? ` (${destination.pointer})` : ""}`,
      ],
      ["Request", `number ${request.seq} since the start`],
    ]),
    body("Body", request.body),
    body("Answer", request.answer),
    otherRequests.length > 0 &&
      h(
        "div",
        null,
        h("h3", null, "Other requests that named it"),
        h(
          "ul",
          { class: "plain" },
          otherRequests.map((other) =>
            h("li", null, h("code", null, `${other.method} ${other.path}`), ` ${fully(other.atMs)}, ${answerWord(other)}`),
          ),
        ),
      ),
  ]);
}

/** What the answer said about it, and why it was refused. */
export function validation({ validation: answered }) {
  if (!answered) return null;
  return part(answered, () =>
    list([
      ["Answered", `${answered.answered.name} (${answered.answered.id})`],
      ["Why", answered.reason ?? "accepted"],
    ]),
  );
}

/** The parts of a concatenated message, as they go over the air. */
export function segments({ segments: all }) {
  if (!all || all.length === 0) return null;
  return part(all, () =>
    h(
      "ol",
      { class: "segments" },
      all.map((segment) =>
        h(
          "li",
          null,
          h(
            "div",
            { class: "muted" },
            `Part ${segment.part}: ${segment.units} ${segment.unit}`,
            segment.header ? [", header ", h("code", null, hexPairs(segment.header))] : null,
          ),
          h(
            "div",
            { class: segment.hex ? "segment hex" : "segment", dir: segment.hex ? "ltr" : "auto" },
            segment.hex ? hexPairs(segment.hex) : marked(segment.text ?? ""),
          ),
        ),
      ),
    ),
  );
}

/** What `GET /sms/1/logs` says. */
export function logs({ logs: shown }) {
  if (!shown) return null;
  return part(shown, () =>
    shown.row
      ? h("pre", { tabindex: 0, role: "group", "aria-label": "Row of the logs" }, marked(JSON.stringify(shown.row, null, 2)))
      : h("p", { class: "muted" }, shown.why),
  );
}
