// Shows the text of a message as text: characters that are invisible or that reorder others become marks with their code,
// addresses become links, and the direction of one text does not leak into its surroundings.
//
// Invariant: nothing in a text reaches the document as anything but a text node or the checked address of a link.

import { h } from "./dom.js";

// Controls without tab and line feed, marks of direction, zero-width characters, separators of lines, tags, lone surrogates.
// The joiners U+200C and U+200D stay: emoji and Persian need them.
const INVISIBLE = new RegExp(
  [
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e]/u,
    /[\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/u,
    // Tags, except in the flags that consist of them.
    /(?<!\u{1f3f4}[\u{e0020}-\u{e007e}]*)[\u{e0000}-\u{e007f}]/u,
    /\p{Surrogate}/u,
  ]
    .map((pattern) => pattern.source)
    .join("|"),
  "gu",
);
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`]+/giu;
const TRAILING = /[.,;:!?)\]}]+$/u;

const NAMES = new Map([
  [0x00, "NULL"],
  [0x08, "BACKSPACE"],
  [0x0c, "FORM FEED"],
  [0x0d, "CARRIAGE RETURN"],
  [0x1b, "ESCAPE"],
  [0xad, "SOFT HYPHEN"],
  [0x200b, "ZERO WIDTH SPACE"],
  [0x200e, "LEFT-TO-RIGHT MARK"],
  [0x200f, "RIGHT-TO-LEFT MARK"],
  [0x202a, "LEFT-TO-RIGHT EMBEDDING"],
  [0x202b, "RIGHT-TO-LEFT EMBEDDING"],
  [0x202c, "POP DIRECTIONAL FORMATTING"],
  [0x202d, "LEFT-TO-RIGHT OVERRIDE"],
  [0x202e, "RIGHT-TO-LEFT OVERRIDE"],
  [0x2066, "LEFT-TO-RIGHT ISOLATE"],
  [0x2067, "RIGHT-TO-LEFT ISOLATE"],
  [0x2068, "FIRST STRONG ISOLATE"],
  [0x2069, "POP DIRECTIONAL ISOLATE"],
  [0xfeff, "ZERO WIDTH NO-BREAK SPACE"],
]);

function code(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

function mark(character) {
  const name = NAMES.get(character.codePointAt(0));
  return h("span", { class: "mark", title: name ?? "a character that is not visible" }, code(character));
}

/** The nodes of a text, with marks. */
export function marked(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (match.index > from) nodes.push(text.slice(from, match.index));
    nodes.push(mark(match[0]));
    from = match.index + match[0].length;
  }
  if (from < text.length) nodes.push(text.slice(from));
  return nodes;
}

/** A text of one line without marks of direction, for attributes and for lists. */
export function oneLine(text) {
  return text.replace(INVISIBLE, (character) => (/\s/u.test(character) ? " " : `[${code(character)}]`)).replace(/\s+/gu, " ");
}

/** A short value from outside, such as a sender, that cannot reorder what stands around it. */
export function isolated(text, properties = {}) {
  return h("bdi", properties, marked(String(text ?? "")));
}

/**
 * The nodes of a message's text with its links.
 * `simulatorAddress` gives the address under which the simulator serves a short link, or null for any other address.
 */
export function withLinks(text, simulatorAddress) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const address = match[0].replace(TRAILING, "");
    const url = URL.canParse(address) ? new URL(address) : null;
    // An address with invisible characters stays text, because a reader could not tell where it leads.
    if (!url || !/^https?:$/u.test(url.protocol) || address.search(INVISIBLE) >= 0) continue;
    const short = simulatorAddress(address);
    nodes.push(...marked(text.slice(from, match.index)));
    nodes.push(
      h(
        "a",
        {
          href: short ?? url.href,
          target: "_blank",
          rel: "noopener noreferrer",
          class: short ? "short-link" : null,
          title: short ? `opens ${short}; the simulator records the click` : null,
        },
        address,
      ),
    );
    from = match.index + address.length;
  }
  nodes.push(...marked(text.slice(from)));
  return nodes;
}
