// One message of a conversation: its text as the phone shows it, and a line with time, state and form that opens its story.
//
// Invariant: the text is isolated, so that its direction does not change the lines around it.

import { h, icon } from "./dom.js";
import { fullDay, hexPairs, hourAndMinute, plural, stateIcon } from "./format.js";
import { isolated, oneLine, withLinks } from "./plain-text.js";

// Longer texts are folded until somebody asks for all of it.
const FOLDED_CHARACTERS = 1200;
const FOLDED_LINES = 30;

const REPORT_ICONS = { pushing: "clock", lost: "cross", dropped: "cross" };

export function bubbleKey({ direction, row, messageId }) {
  return `${direction} ${row ?? ""} ${messageId}`;
}

export function bubbleAtMs(bubble) {
  return bubble.direction === "in" ? bubble.receivedAtMs : bubble.acceptedAtMs;
}

/** With whom the phone talks in this message: the sender of a text to it, the receiver of a text from it. */
export function party(bubble) {
  return bubble.direction === "in" ? bubble.receiver : bubble.sender;
}

/** The item of a conversation's list. `open(bubble)` shows the story. */
export function drawBubble(bubble, open) {
  const mine = bubble.direction === "in";
  const body = h("div", { class: bodyClass(bubble), dir: bubble.binary ? "ltr" : "auto" });
  body.append(...content(bubble, body));
  body.addEventListener("click", (event) => {
    // A click that ends a selection of text, or that follows a link, is no request for the story.
    if (event.target.closest("a, button") || String(getSelection())) return;
    open(bubble);
  });
  return h(
    "li",
    { class: `message ${mine ? "mine" : "theirs"}`, "data-key": bubbleKey(bubble) },
    body,
    h(
      "button",
      { type: "button", class: "meta", on: { click: () => open(bubble) } },
      spoken(`${kind(bubble)}, `),
      meta(bubble),
      spoken(". Show its story"),
    ),
  );
}

function bodyClass({ flash, state, binary }) {
  return ["bubble", flash && "flash", (state === "scheduled" || state === "rejected") && "unsent", binary && "hex"]
    .filter(Boolean)
    .join(" ");
}

function content(bubble, body) {
  if (bubble.binary) return binary(bubble);
  const text = bubble.text ?? "";
  const short = shortened(text);
  const links = new Map((bubble.links ?? []).filter((link) => !link.gone).map((link) => [link.short, link.path]));
  const nodes = (part) => withLinks(part, (address) => links.get(address) ?? null);
  if (short === text) return nodes(text);
  const more = h("button", { type: "button", class: "more" }, `Show all ${plural(bubble.characters, "character")}`);
  more.addEventListener("click", () => {
    const rest = bubble.textCut
      ? [h("span", { class: "muted" }, ` … ${plural(bubble.characters - [...text].length, "more character")}`)]
      : [];
    body.replaceChildren(...nodes(text), ...rest);
    body.closest("li").querySelector(".meta").focus();
  });
  return [...nodes(short), "…", more];
}

function shortened(text) {
  const lines = text.split("\n", FOLDED_LINES + 1);
  const few = lines.length > FOLDED_LINES ? lines.slice(0, FOLDED_LINES).join("\n") : text;
  return few.length > FOLDED_CHARACTERS ? few.slice(0, FOLDED_CHARACTERS).replace(/[\ud800-\udbff]$/u, "") : few;
}

function binary({ binary: { hex, octets, cut }, text }) {
  const readable = text ? [h("br"), isolated(text, { class: "readable" })] : [];
  return [hexPairs(hex), cut ? ` … (${plural(octets, "octet")})` : "", ...readable];
}

function meta(bubble) {
  const { state, parts, encoding, flash, status } = bubble;
  const forms = [
    hourAndMinute(bubbleAtMs(bubble)),
    flash && "flash",
    parts > 1 && `${parts} parts`,
    encoding.name,
    encoding.table,
    bubble.binary && plural(bubble.binary.octets, "octet"),
    bubble.keyword && `keyword ${oneLine(bubble.keyword)}`,
    bubble.handsetDeliveries > 1 && `received ${bubble.handsetDeliveries} times`,
    clicks(bubble),
  ].filter(Boolean);
  const badge =
    bubble.direction === "in"
      ? h("span", { class: `badge ${bubble.report}` }, icon(REPORT_ICONS[bubble.report] ?? "check"), inboxWord(bubble))
      : h("span", { class: `badge ${state}` }, icon(stateIcon(state)), stateWord(bubble));
  const why = ["undeliverable", "rejected", "expired"].includes(state) && (bubble.error?.id ? bubble.error.name : status.name);
  return [badge, " ", why ? h("span", null, why, " ") : null, h("span", null, forms.join(" · "))];
}

function inboxWord({ report }) {
  return (
    {
      waiting: "in the inbox",
      pulled: "pulled",
      pushing: "push pending",
      pushed: "pushed",
      lost: "push lost",
      dropped: "never pulled",
    }[report] ?? "received"
  );
}

function stateWord({ state, scheduledForMs }) {
  return state === "scheduled" && scheduledForMs
    ? `scheduled for ${fullDay(scheduledForMs)} ${hourAndMinute(scheduledForMs)}`
    : state;
}

function clicks({ links }) {
  const amount = (links ?? []).reduce((sum, link) => sum + link.clicks, 0);
  return amount > 0 && plural(amount, "click");
}

// Only for screen readers.
function spoken(text) {
  return h("span", { class: "visually-hidden" }, text);
}

function kind(bubble) {
  return bubble.direction === "in" ? `Message to ${oneLine(bubble.receiver)}` : `Message from ${oneLine(bubble.sender)}`;
}
