// Writes as a phone: the line at the bottom of a conversation, and the parts that the dialog of a new phone shares with it.
//
// Neighbour: `dialogs` has the dialog.

import * as api from "./api.js";
import { announce } from "./announce.js";
import { fill, h, icon } from "./dom.js";
import { oneLine } from "./plain-text.js";

// A number that may be written to when the phone got nothing yet.
export const ANY_RECEIVER = "41793026700";

let fields = 0;

/** A field with its label. */
export function field(name, control) {
  fields += 1;
  control.id ||= `field-${fields}`;
  return h("div", { class: "field" }, h("label", { for: control.id }, name), control);
}

/** The fields of a binary message; `value()` gives what `POST /_sim/inbound` takes. */
export function binaryFields() {
  const coding = h("input", { type: "number", min: 0, max: 255, value: 4 });
  const esm = h("input", { type: "number", min: 0, max: 255, value: 0 });
  return {
    element: h("div", { class: "two", hidden: true }, field("Data coding", coding), field("ESM class", esm)),
    value: () => ({ dataCoding: Number(coding.value), esmClass: Number(esm.value) }),
  };
}

export class Composer {
  /** `sent()` is called after a message. */
  constructor({ sent }) {
    this.sent = sent;
    this.to = h("input", {
      type: "text",
      inputmode: "tel",
      autocomplete: "off",
      spellcheck: "false",
      list: "receivers",
      id: "composer-to",
    });
    this.receivers = h("datalist", { id: "receivers" });
    this.hex = h("input", { type: "checkbox", id: "composer-hex", on: { change: () => this.#switch() } });
    this.binary = binaryFields();
    this.text = h("textarea", {
      rows: 1,
      id: "composer-text",
      dir: "auto",
      placeholder: "Answer as this phone",
      on: {
        input: () => this.#grow(),
        keydown: (event) => {
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            this.#send();
          }
        },
      },
    });
    this.button = h(
      "button",
      {
        type: "button",
        class: "button main send",
        "aria-label": "Send",
        title: "Send (Enter)",
        on: { click: () => this.#send() },
      },
      icon("send"),
    );
    this.words = h("div", { class: "filters", role: "group", "aria-label": "Keywords of this number", hidden: true });
    this.refused = h("p", { class: "composer-note refused", role: "alert", hidden: true });
    this.element = h(
      "div",
      { class: "composer", role: "group", "aria-label": "Write as this phone" },
      h(
        "div",
        { class: "composer-to" },
        h("label", { for: "composer-to" }, "To"),
        this.to,
        this.receivers,
        h("label", { class: "check" }, this.hex, "hex"),
      ),
      this.words,
      this.binary.element,
      h(
        "div",
        { class: "composer-line" },
        h("label", { for: "composer-text", class: "visually-hidden" }, "Text to send as this phone"),
        this.text,
        this.button,
      ),
      this.refused,
    );
    this.to.addEventListener("input", () => this.#showWords());
  }

  /** Another phone writes. */
  show(number) {
    this.number = number;
    this.to.value = "";
    this.text.value = "";
    this.refused.hidden = true;
    this.text.style.height = "";
    this.wordsLoaded = false;
  }

  /** Offers the numbers that this phone talked with; the last one is filled in unless something was typed. */
  offer(bubbles) {
    const numbers = bubbles
      .map((bubble) => (bubble.direction === "in" ? bubble.receiver : bubble.sender))
      .filter((party) => /^\d{3,15}$/u.test(party));
    const different = [...new Set(numbers.toReversed())].slice(0, 20);
    fill(
      this.receivers,
      different.map((value) => h("option", { value })),
    );
    if (this.to.value === "") {
      this.to.value = different[0] ?? this.keywords?.[0]?.to ?? ANY_RECEIVER;
      this.#showWords();
    }
    if (!this.wordsLoaded) this.#loadWords();
  }

  async #loadWords() {
    this.wordsLoaded = true;
    try {
      const { keywords } = await api.keywords();
      this.keywords = keywords;
      this.#showWords();
    } catch {
      this.keywords = [];
    }
  }

  #showWords() {
    const words = (this.keywords ?? []).filter(({ to }) => to === this.to.value.trim()).slice(0, 12);
    const insert = (word) => {
      this.text.value = `${word} ${this.text.value}`;
      this.text.focus();
    };
    fill(
      this.words,
      words.map(({ keyword }) =>
        h("button", { type: "button", class: "chip", on: { click: () => insert(keyword) } }, oneLine(keyword)),
      ),
    );
    this.words.hidden = words.length === 0;
  }

  #switch() {
    this.binary.element.hidden = !this.hex.checked;
    this.text.placeholder = this.hex.checked ? "Octets, such as 48 65 6C 6C 6F" : "Answer as this phone";
    this.text.classList.toggle("mono", this.hex.checked);
  }

  #grow() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight + 2}px`;
  }

  async #send() {
    const content = this.text.value;
    if (content.trim() === "" || this.button.disabled) {
      this.text.focus();
      return;
    }
    const to = this.to.value.trim();
    this.button.disabled = true;
    this.refused.hidden = true;
    try {
      const form = this.hex.checked ? { hex: content, ...this.binary.value() } : { text: content };
      await api.receive({ from: this.number, to, ...form });
      this.text.value = "";
      this.#grow();
      announce(`Sent from ${this.number} to ${to}`);
      this.sent();
    } catch (error) {
      this.refused.textContent = error.message;
      this.refused.hidden = false;
    } finally {
      this.button.disabled = false;
      this.text.focus();
    }
  }
}
