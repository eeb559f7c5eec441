// The conversation of one phone, oldest message at the top, newest at the bottom, as on a phone.
//
// Invariants: at most MAX_BUBBLES messages are in the document: older ones replace the newest, and a button leads back to those.
// While the newest are shown and the end is in sight, new messages scroll into sight; otherwise nothing moves, and new ones are
// left out when the document is full. An answer that a later one overtook changes nothing.

import * as api from "./api.js";
import { bubbleAtMs, bubbleKey, drawBubble, party } from "./bubble.js";
import { fill, h, icon } from "./dom.js";
import { fullDay } from "./format.js";
import { atMost } from "./live.js";
import { isolated } from "./plain-text.js";

const PAGE = 50;
const MAX_PAGE = 200;
const MAX_BUBBLES = 300;
const NEAR_END = 80;

export class Conversation {
  /** `open(bubble)` shows a story; `loaded(phone, bubbles)` is called with each answer; `failed(error)` when there is none. */
  constructor({ open, loaded, failed }) {
    Object.assign(this, { open, loaded, failed });
    this.bubbles = [];
    this.drawn = new Map();
    this.visit = 0;
    this.question = 0;
    this.answered = 0;
    this.items = h("ol", { class: "bubbles", "aria-label": "Messages, oldest first" });
    this.olderButton = h(
      "button",
      { type: "button", class: "button small", on: { click: () => this.#older() } },
      "Show older messages",
    );
    this.olderRow = h("div", { class: "older", hidden: true }, this.olderButton);
    this.latest = h(
      "button",
      { type: "button", class: "button small to-latest", hidden: true, on: { click: () => this.#toLatest() } },
      icon("down"),
      "Newest messages",
    );
    this.talk = h(
      "div",
      {
        class: "talk",
        tabindex: 0,
        role: "group",
        "aria-label": "Conversation",
        on: { scroll: () => this.#scrolled(), keydown: (event) => this.#key(event) },
      },
      this.olderRow,
      this.items,
    );
    this.element = h("div", { class: "talk-frame" }, this.talk, this.latest);
    this.renewSoon = atMost(300, () => this.#renew());
    // The end stays in sight when the conversation becomes lower, because the line below it grows.
    this.sticky = true;
    new ResizeObserver(() => this.sticky && this.#toEnd()).observe(this.talk);
  }

  /** Shows the conversation of a number. */
  async show(number) {
    this.number = number;
    this.visit += 1;
    // Answers to earlier questions come too late.
    this.question += 1;
    this.answered = this.question;
    this.bubbles = [];
    this.drawn.clear();
    this.cursor = null;
    this.detached = false;
    this.#showLoadingOlder(false);
    fill(this.items, h("li", { class: "loading" }, "Loading…"));
    this.olderRow.hidden = true;
    this.latest.hidden = true;
    await this.#renew(true);
  }

  /** Something in this conversation has changed. */
  change() {
    if (this.number) this.renewSoon();
  }

  /** Marks the message whose story is shown. */
  mark(messageId) {
    this.marked = messageId;
    for (const [key, item] of this.drawn)
      item.element.classList.toggle("selected", messageId !== null && key.endsWith(` ${messageId}`));
  }

  /** Puts the focus on the button of a message, or on the conversation. */
  focus(messageId) {
    const key = [...this.drawn.keys()].find((candidate) => messageId && candidate.endsWith(` ${messageId}`));
    (this.drawn.get(key)?.element.querySelector(".meta") ?? this.talk).focus();
  }

  async #renew(first = false) {
    const { number } = this;
    // A reset may have taken the phone away since the change was told.
    if (!number) return;
    if (this.detached) {
      this.latest.hidden = false;
      return;
    }
    this.question += 1;
    const { question } = this;
    const late = () => question < this.answered || number !== this.number || this.detached;
    try {
      const limit = Math.min(MAX_PAGE, Math.max(PAGE, this.bubbles.length));
      const answer = await api.phone(number, { limit });
      if (late()) return;
      this.answered = question;
      const fresh = answer.bubbles.toReversed();
      const keys = new Set(fresh.map(bubbleKey));
      const overlaps = this.bubbles.some((bubble) => keys.has(bubbleKey(bubble)));
      const end = first || this.#atEnd();
      let kept =
        overlaps && answer.cursor !== null
          ? this.bubbles.slice(
              0,
              this.bubbles.findIndex((bubble) => keys.has(bubbleKey(bubble))),
            )
          : [];
      if (kept.length + fresh.length > MAX_BUBBLES) {
        if (!end) {
          this.detached = true;
          this.latest.hidden = false;
          this.loaded(answer.phone, this.bubbles);
          return;
        }
        kept = [];
      }
      if (kept.length === 0) this.cursor = answer.cursor;
      const grown = !first && fresh.length > 0 && this.bubbles.length > 0 && !this.drawn.has(bubbleKey(fresh.at(-1)));
      this.#draw([...kept, ...fresh]);
      if (end) this.#toEnd();
      else if (grown) this.latest.hidden = false;
      this.loaded(answer.phone, this.bubbles);
    } catch (error) {
      if (late()) return;
      if (this.bubbles.length === 0) fill(this.items);
      this.failed(error);
    }
  }

  async #older() {
    if (this.cursor === null || this.loadingOlder) return;
    const { number, visit, cursor } = this;
    // What follows the oldest message is another answer if that message has changed meanwhile.
    const late = () => visit !== this.visit || number !== this.number || cursor !== this.cursor;
    this.#showLoadingOlder(true);
    try {
      const answer = await api.phone(number, { limit: PAGE, cursor });
      if (late()) return;
      const keys = new Set(this.bubbles.map(bubbleKey));
      const older = answer.bubbles.toReversed().filter((bubble) => !keys.has(bubbleKey(bubble)));
      this.cursor = answer.cursor;
      let bubbles = [...older, ...this.bubbles];
      if (bubbles.length > MAX_BUBBLES) {
        bubbles = bubbles.slice(0, MAX_BUBBLES);
        this.detached = true;
        this.latest.hidden = false;
      }
      const fromEnd = this.talk.scrollHeight - this.talk.scrollTop;
      const anchor = this.items.firstElementChild;
      const before = anchor?.getBoundingClientRect().top;
      this.#draw(bubbles);
      if (anchor?.isConnected) this.talk.scrollTop += anchor.getBoundingClientRect().top - before;
      else this.talk.scrollTop = this.talk.scrollHeight - fromEnd;
    } catch (error) {
      if (!late()) this.failed(error);
    } finally {
      if (visit === this.visit) this.#showLoadingOlder(false);
    }
  }

  #showLoadingOlder(loading) {
    this.loadingOlder = loading;
    this.olderButton.textContent = loading ? "Loading…" : "Show older messages";
  }

  #toLatest() {
    if (this.detached) {
      this.show(this.number);
    } else {
      this.#toEnd();
    }
    this.talk.focus();
  }

  #draw(bubbles) {
    this.bubbles = bubbles;
    this.olderRow.hidden = this.cursor === null;
    const wanted = [];
    const before = this.drawn;
    this.drawn = new Map();
    let day = "";
    let whom = "";
    for (const bubble of bubbles) {
      const dayNow = fullDay(bubbleAtMs(bubble));
      const whomNow = `${bubble.direction} ${party(bubble)}`;
      if (dayNow !== day) wanted.push(this.#separator(`day ${dayNow}`, before, () => h("li", { class: "day" }, dayNow)));
      if (whomNow !== whom || dayNow !== day) wanted.push(this.#who(bubble, before));
      day = dayNow;
      whom = whomNow;
      wanted.push(this.#bubble(bubble, before));
    }
    this.#place(wanted);
    if (this.marked) this.mark(this.marked);
  }

  #separator(key, before, make) {
    const item = before.get(key) ?? { element: make() };
    this.drawn.set(key, item);
    return item.element;
  }

  #who(bubble, before) {
    const mine = bubble.direction === "in";
    const make = () =>
      h("li", { class: `who message ${mine ? "mine" : "theirs"}` }, h("span", null, mine ? "to " : "", isolated(party(bubble))));
    return this.#separator(`who ${bubbleKey(bubble)} `, before, make);
  }

  #bubble(bubble, before) {
    const key = bubbleKey(bubble);
    const json = JSON.stringify(bubble);
    let item = before.get(key);
    if (item?.json !== json) item = { element: this.#redrawn(item, bubble), json };
    this.drawn.set(key, item);
    return item.element;
  }

  // A message that changed keeps the focus that was on it, and what was unfolded.
  #redrawn(item, bubble) {
    const element = drawBubble(bubble, this.open);
    const unfolded = item && !item.element.querySelector(".more");
    if (unfolded) element.querySelector(".more")?.click();
    if (item?.element.contains(document.activeElement)) {
      item.element.replaceWith(element);
      element.querySelector(".meta").focus();
    }
    return element;
  }

  // Moves only what is not in its place, so that nothing that is selected or focused is taken out of the document.
  #place(wanted) {
    const keep = new Set(wanted);
    for (const child of [...this.items.children]) if (!keep.has(child)) child.remove();
    let next = this.items.firstElementChild;
    for (const element of wanted) {
      if (element === next) next = next.nextElementSibling;
      else this.items.insertBefore(element, next);
    }
  }

  #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.talk;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  #toEnd() {
    this.sticky = true;
    this.talk.scrollTop = this.talk.scrollHeight;
    this.latest.hidden = true;
  }

  #scrolled() {
    this.sticky = this.#atEnd() && !this.detached;
    if (this.#atEnd() && !this.detached) this.latest.hidden = true;
    if (this.talk.scrollTop < 200 && this.talk.scrollHeight > this.talk.clientHeight) this.#older();
  }

  #key(event) {
    if (!["ArrowDown", "ArrowUp"].includes(event.key) || event.altKey || event.ctrlKey || event.metaKey) return;
    const buttons = [...this.items.querySelectorAll(".meta")];
    const at = buttons.indexOf(document.activeElement);
    const to = at < 0 ? buttons.length - 1 : at + (event.key === "ArrowDown" ? 1 : -1);
    if (buttons[to]) {
      event.preventDefault();
      buttons[to].focus();
      buttons[to].scrollIntoView({ block: "nearest" });
    }
  }
}
