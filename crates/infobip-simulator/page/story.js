// The story of a message: what happened in its order, then the request, the validation, the segments, pushes, pulls and the logs.
//
// Invariant: a part is drawn again only if its data changed, so that the focus, what is unfolded and the place stay.
// Neighbour: `story-parts` draws the parts.

import * as api from "./api.js";
import { copyValue } from "./copy.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { atMost } from "./live.js";
import { facts, logs, pushes, receipt, requestPart, segments, validation } from "./story-parts.js";
import { timeline } from "./timeline.js";
import { stateIcon } from "./format.js";

// Title, what it shows, and whether it is unfolded at first.
const PARTS = [
  ["What happened", timeline, true],
  ["The message", facts, true],
  ["Pushes", pushes, true],
  ["The report", receipt, false],
  ["The request", requestPart, false],
  ["Validation", validation, false],
  ["Segments", segments, false],
  ["What the logs show", logs, false],
];

export class Story {
  /** `close()` is called by the button and by Escape. */
  constructor({ close }) {
    this.head = h("div", { class: "story-title" });
    this.title = h("h2", { id: "story-title", tabindex: -1 }, "Story of the message");
    this.body = h("div", { class: "story-body", tabindex: 0, role: "group", "aria-label": "Story of the message" });
    this.element = h(
      "aside",
      { class: "story", "aria-labelledby": "story-title", hidden: true },
      h("div", { class: "story-head" }, this.title, iconButton("close", "Close the story", close)),
      this.head,
      this.body,
    );
    this.parts = PARTS.map(([title, draw, open]) => {
      const content = h("div", { class: "part-body" });
      const element = h("details", { class: "part", hidden: true, open }, h("summary", null, title), content);
      return { draw, content, element, json: null };
    });
    this.renewSoon = atMost(400, () => this.#renew());
  }

  /** Shows the story of a message, or nothing. */
  async show(id, row) {
    if (id === this.id && row === this.row) return;
    const opened = id !== null;
    this.id = id;
    this.row = row;
    this.element.hidden = !opened;
    if (!opened) return;
    for (const part of this.parts) {
      part.json = null;
      part.element.hidden = true;
    }
    fill(this.head);
    fill(this.body, h("p", { class: "loading" }, "Loading…"));
    this.title.focus({ preventScroll: true });
    await this.#renew();
  }

  /** Something may have changed. */
  change() {
    if (this.id) this.renewSoon();
  }

  async #renew() {
    const { id, row } = this;
    if (!id) return;
    try {
      const story = await api.message(id, row);
      if (id === this.id && row === this.row) this.#draw(story);
    } catch (error) {
      if (id === this.id && row === this.row) this.#failed(error);
    }
  }

  #draw(story) {
    const { message } = story;
    const { state } = message;
    fill(
      this.head,
      h("span", { class: `badge ${state}` }, icon(state === "received" ? "check" : stateIcon(state)), state),
      copyValue("message id", message.messageId),
    );
    if (this.body.firstElementChild !== this.parts[0].element)
      fill(
        this.body,
        this.parts.map((part) => part.element),
      );
    for (const part of this.parts) {
      const drawn = part.draw(story);
      part.element.hidden = drawn === null;
      if (drawn === null || drawn.json === part.json) continue;
      part.json = drawn.json;
      fill(part.content, drawn.nodes());
    }
  }

  #failed(error) {
    const text =
      error.status === 404 ? "No stored message has this id. It may have been evicted or deleted by a reset." : error.message;
    const again = h("button", { type: "button", class: "button small", on: { click: () => this.#renew() } }, "Try again");
    fill(this.body, h("div", { class: "error-box", role: "alert" }, h("span", null, text), again));
  }
}
