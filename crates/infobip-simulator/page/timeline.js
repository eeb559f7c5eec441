// The first part of a message's story: everything that happened to it, in the order of the virtual clock.
//
// Neighbour: `story-parts` has the other parts.

import { h } from "./dom.js";
import { fullDay, plural, withMilliseconds } from "./format.js";
import { marked } from "./plain-text.js";

/** A part of a story: the data it depends on as JSON, and its nodes. */
export const part = (data, nodes) => ({ json: JSON.stringify(data), nodes });

/** Every event of the message in the order of the virtual clock. */
export function timeline(story) {
  const events = eventsOf(story);
  return part(events, () => {
    let day = "";
    const items = events.map((event) => {
      const today = fullDay(event.atMs);
      const head = today !== day && h("li", { class: "timeline-day" }, today);
      day = today;
      return [
        head,
        h(
          "li",
          { class: `timeline-event ${event.tone}` },
          h("time", { datetime: new Date(event.atMs).toISOString() }, withMilliseconds(event.atMs)),
          h(
            "div",
            null,
            h("span", { class: "timeline-what" }, event.what),
            event.detail && h("span", { class: "timeline-detail" }, marked(event.detail)),
          ),
        ),
      ];
    });
    return h("ol", { class: "timeline" }, items);
  });
}

function eventsOf({ request, changes, pushes: all, report, clicks, otherRequests }) {
  const events = [];
  if (request)
    events.push({ atMs: request.atMs, what: `${request.method} ${request.path}`, detail: answerWord(request), tone: "" });
  for (const { atMs, what, status, error } of changes) {
    const detail = status && [status.name, error?.id ? error.name : null].filter(Boolean).join(", ");
    events.push({ atMs, what: changeWord(what, status), detail, tone: tone(status) });
  }
  for (const push of all) {
    for (const [index, attempt] of push.attempts.entries()) {
      const good = attempt.status === 200;
      const what = `Push of ${push.kind}, attempt ${index + 1}`;
      events.push({
        atMs: attempt.atMs,
        what,
        detail: attempt.status === null ? "no answer" : `answered with ${attempt.status}`,
        tone: good ? "good" : "bad",
      });
    }
    if (push.nextAttemptMs) {
      events.push({
        atMs: push.nextAttemptMs,
        what: `Push of ${push.kind}, next attempt`,
        detail: `${plural(push.attemptsLeft, "attempt")} left`,
        tone: "future",
      });
    }
  }
  if (report?.takenAtMs && report.way === "pull")
    events.push({ atMs: report.takenAtMs, what: "Pulled", detail: "the report was read once", tone: "good" });
  for (const click of clicks)
    events.push({
      atMs: click.atMs,
      what: "Click",
      detail: [click.target, click.device, click.os].filter((word) => word && word !== "Unknown").join(", "),
      tone: "good",
    });
  for (const other of otherRequests)
    events.push({ atMs: other.atMs, what: `${other.method} ${other.path}`, detail: answerWord(other), tone: "" });
  return events.map((event, index) => ({ ...event, index })).sort((a, b) => a.atMs - b.atMs || a.index - b.index);
}

function changeWord(what, status) {
  return what === "final" && status
    ? status.groupName
        .toLowerCase()
        .replaceAll("_", " ")
        .replace(/^./u, (letter) => letter.toUpperCase())
    : what.replace(/^./u, (letter) => letter.toUpperCase());
}

function tone(status) {
  if (!status) return "good";
  return { DELIVERED: "good", UNDELIVERABLE: "bad", REJECTED: "bad", EXPIRED: "bad" }[status.groupName] ?? "";
}

/** How a request was answered, in words. */
export function answerWord({ status, fault, processed }) {
  const answered = status === null ? "the connection was closed without an answer" : `answered with ${status}`;
  return [answered, fault && `fault ${fault}`, !processed && "not processed"].filter(Boolean).join(", ");
}
