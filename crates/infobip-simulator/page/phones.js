// The view of the phones: the list, the conversation of the selected phone, the story of the selected message.
//
// Neighbours: `phone-list`, `conversation`, `composer`, `story` draw the parts; `route` says what is selected.

import * as api from "./api.js";
import { announce } from "./announce.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { curlLine } from "./connect-lines.js";
import { copyBox } from "./copy.js";
import { sendToPhone, writeAsPhone } from "./dialogs.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { count, fullDay, hourAndMinute } from "./format.js";
import { nowMs } from "./live.js";
import { oneLine } from "./plain-text.js";
import { avatar, PhoneList } from "./phone-list.js";
import { go, route } from "./route.js";
import { Story } from "./story.js";

export class PhonesView {
  constructor() {
    this.title = "Phones";
    this.list = new PhoneList({
      open: (phone) => this.#enter(phone),
      sendToPhone: () => sendToPhone(),
      writeAsPhone,
    });
    this.conversation = new Conversation({
      open: (bubble) => go({ message: bubble.messageId, row: bubble.direction === "out" ? bubble.row : null }),
      loaded: (phone, bubbles) => this.#loaded(phone, bubbles),
      failed: (error) => this.#failed(error),
    });
    this.composer = new Composer({ sent: () => this.conversation.change() });
    this.story = new Story({ close: () => this.#closeStory() });
    this.time = h("span");
    this.avatar = h("div");
    this.name = h("h1");
    this.place = h("p");
    this.outcome = h("p", { class: "outcome" });
    this.head = h(
      "div",
      { class: "phone-head" },
      iconButton("back", "Back to the list of phones", () => this.#leave(), { class: "icon-button only-narrow" }),
      this.avatar,
      h("div", { class: "phone-name" }, this.name, this.place),
      iconButton("send", "Send a text to this phone", () => sendToPhone(this.number)),
    );
    this.note = h("div");
    this.phone = h(
      "section",
      { class: "phone", "aria-label": "Phone" },
      h("div", { class: "phone-bar", "aria-hidden": "true" }, this.time),
      this.head,
      this.outcome,
      this.note,
      this.conversation.element,
      this.composer.element,
    );
    this.stage = h("div", { class: "stage" });
    this.element = h(
      "div",
      { class: "phones", on: { keydown: (event) => event.key === "Escape" && this.#escape() } },
      this.list.element,
      this.stage,
      this.story.element,
    );
  }

  /** Shows a route. */
  show(to) {
    this.list.show(to);
    if (this.missed) this.heard("reload");
    this.missed = false;
    this.element.classList.toggle("with-phone", to.number !== null);
    this.element.classList.toggle("with-story", to.message !== null);
    if (to.number !== this.number) this.#showPhone(to.number);
    this.conversation.mark(to.message);
    this.story.show(to.message, to.row);
    this.tick();
  }

  /** Once a second: the clock of the phone. */
  tick() {
    this.time.textContent = hourAndMinute(nowMs());
    // The list writes the time of messages of this day, and the date of others.
    const today = fullDay(nowMs());
    if (today !== this.today) this.list.list.redraw();
    this.today = today;
  }

  /** Takes over what the stream told. */
  heard(kind, data) {
    if (kind === "connection") this.list.counted();
    if (!this.element.isConnected && (kind === "change" || kind === "reload")) {
      // Loaded when the phones are shown again.
      this.missed = true;
    } else if (kind === "change") {
      this.list.change(data);
      const affected = data.allPhones || data.phones.includes(this.number);
      // A push is part of a bubble's state and of the story.
      if (affected || data.pushesChanged) {
        this.conversation.change();
        this.story.change();
      }
      this.#announce(data);
    } else if (kind === "reload") {
      this.list.reload();
      this.conversation.change();
      this.story.change();
    } else if (kind === "reset") {
      this.list.reset();
      // Back may lead to this message again: then its story is asked for.
      this.story.show(null, null);
      if (this.number && this.element.isConnected) go({ number: null, message: null, row: null }, true);
      else this.#showPhone(null);
    }
  }

  #announce({ phones, allPhones }) {
    if (allPhones) announce("Many conversations changed.");
    else if (phones.length > 0 && phones.length < 4) announce(`Changed: ${phones.map(oneLine).join(", ")}`);
    else if (phones.length > 0) announce(`${phones.length} conversations changed.`);
  }

  #showPhone(number) {
    this.number = number;
    if (number === null) {
      this.conversation.number = null;
      this.#welcome();
      return;
    }
    // First, so that the answer is on its way while the rest is drawn.
    this.conversation.show(number);
    if (!this.phone.isConnected) fill(this.stage, this.phone);
    fill(this.note);
    this.composer.show(number);
    this.#drawHead({ number });
    this.phone.setAttribute("aria-label", `Phone ${oneLine(number)}`);
  }

  #loaded(phone, bubbles) {
    fill(this.note);
    this.#drawHead(phone);
    this.composer.offer(bubbles);
  }

  // The buttons stay, because one of them may have the focus.
  #drawHead({ number, country, network, sent, received, outcome }) {
    const place = [network, country].filter(Boolean).join(", ");
    const counts = sent === undefined ? "" : `got ${count(sent)}, sent ${count(received)}`;
    fill(this.avatar, avatar(number));
    fill(this.name, h("bdi", null, oneLine(number)));
    this.place.textContent = [place, counts].filter(Boolean).join(" · ");
    fill(this.outcome, outcome ? [icon("bolt"), h("span", null, outcome)] : []);
  }

  #failed(error) {
    const unknown = error.status === 404;
    const text = unknown ? "No stored message was sent to this number or came from it." : error.message;
    const again = h(
      "button",
      { type: "button", class: "button small", on: { click: () => this.conversation.change() } },
      "Try again",
    );
    fill(
      this.note,
      h("div", { class: unknown ? "empty" : "error-box", role: "status" }, h("span", null, text), unknown ? null : again),
    );
    if (unknown) this.composer.offer([]);
  }

  #welcome() {
    const line = h("div");
    fill(
      this.stage,
      h(
        "section",
        { class: "welcome", "aria-label": "First steps" },
        h("div", { class: "welcome-icon", "aria-hidden": "true" }, icon("phone")),
        h("h2", null, "Every number is a phone"),
        h(
          "p",
          { class: "muted" },
          "Send a text through the simulated API, and it appears here at once. Select a phone to read its messages and to answer.",
        ),
        h(
          "div",
          { class: "actions" },
          h(
            "button",
            { type: "button", class: "button main", on: { click: () => sendToPhone() } },
            icon("send"),
            "Send a text to a phone",
          ),
          h("button", { type: "button", class: "button", on: { click: writeAsPhone } }, icon("plus"), "Write as a phone"),
        ),
        line,
      ),
    );
    this.#firstLine(line);
  }

  async #firstLine(line) {
    try {
      const { credentials } = await api.account();
      fill(line, copyBox("Or by curl", curlLine(credentials)));
    } catch {
      // The banner says that the simulator does not answer.
    }
  }

  #enter(phone) {
    if (phone.number !== route().number) go({ number: phone.number, message: null, row: null });
    this.composer.text.focus();
  }

  #closeStory() {
    const { message } = route();
    go({ message: null, row: null });
    this.conversation.focus(message);
  }

  #escape() {
    if (route().message) this.#closeStory();
    else if (this.stage.contains(document.activeElement)) this.#leave();
  }

  #leave() {
    if (matchMedia("(max-width: 719px)").matches) go({ number: null, message: null, row: null });
    this.list.list.element.focus();
  }
}
