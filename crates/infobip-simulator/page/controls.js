// The view of the controls: the clock, faults, outcomes by number, pushes, keywords, reset.
//
// Neighbours: each card is a module of its own.

import * as api from "./api.js";
import { notify } from "./announce.js";
import { ClockCard } from "./clock-card.js";
import { field } from "./composer.js";
import { confirmFirst } from "./dialogs.js";
import { fill, h, icon } from "./dom.js";
import { FaultsCard } from "./faults-card.js";
import { atMost, live } from "./live.js";
import { OutcomesCard } from "./outcomes-card.js";
import { isolated } from "./plain-text.js";
import { onePush } from "./story-parts.js";

const PUSHES = 20;

export class ControlsView {
  constructor() {
    this.title = "Controls";
    this.clock = new ClockCard();
    this.faults = new FaultsCard();
    this.outcomes = new OutcomesCard();
    this.pushes = h("section", { class: "card", "aria-label": "Pushes" });
    this.keywords = h("section", { class: "card", "aria-label": "Keywords" });
    const reset = h(
      "button",
      { type: "button", class: "button danger", on: { click: () => askReset() } },
      icon("trash"),
      "Reset the simulator",
    );
    this.element = h(
      "div",
      { class: "page" },
      h("h1", null, "Controls"),
      h(
        "div",
        { class: "cards" },
        h("div", { class: "column" }, this.clock.element, this.pushes),
        h("div", { class: "column" }, this.faults.element, this.keywords),
        h(
          "div",
          { class: "column" },
          this.outcomes.element,
          h(
            "section",
            { class: "card", "aria-label": "Reset" },
            h("h2", null, "Reset"),
            h(
              "p",
              { class: "muted" },
              "Deletes all messages, requests, pushes, links, clicks and faults, and restarts the clock. The settings of the start stay.",
            ),
            h("div", null, reset),
          ),
        ),
      ),
    );
    this.#drawKeywordForm();
    this.pushesSoon = atMost(700, () => this.#loadPushes());
  }

  show() {
    this.clock.draw();
    this.faults.change();
    this.outcomes.load();
    this.pushesSoon();
    this.#loadKeywords();
  }

  tick() {
    this.clock.tick();
  }

  heard(kind, data) {
    if (kind === "clock") this.clock.draw();
    if (kind === "connection") return;
    if (kind !== "change" || data.faultsChanged || live.counts?.faults > 0) this.faults.change();
    if (kind !== "change" || data.pushesChanged) this.pushesSoon();
    if (kind === "reset" || kind === "reload") this.#loadKeywords();
  }

  async #loadPushes() {
    if (!this.element.isConnected) return;
    try {
      const [pending, lost] = await Promise.all([
        api.pushes({ limit: PUSHES, state: "pending" }),
        api.pushes({ limit: PUSHES, state: "lost" }),
      ]);
      const shown = [...pending.pushes.toReversed(), ...lost.pushes.toReversed()];
      const json = JSON.stringify(shown);
      if (json === this.pushesDrawn) return;
      this.pushesDrawn = json;
      fill(
        this.pushes,
        h("h2", null, "Pushes that did not arrive"),
        shown.length === 0
          ? h("p", { class: "muted" }, "No push is pending or lost.")
          : shown.map((push) => h("div", { class: "push-item" }, onePush(push))),
      );
    } catch (error) {
      this.pushesDrawn = null;
      fill(this.pushes, h("h2", null, "Pushes that did not arrive"), h("p", { class: "muted" }, error.message));
    }
  }

  #drawKeywordForm() {
    const to = h("input", { type: "text", inputmode: "tel", autocomplete: "off", required: true });
    const word = h("input", { type: "text", autocomplete: "off", required: true, maxlength: 100 });
    this.words = h("ul", { class: "plain words" });
    this.wordsRefused = h("p", { class: "refused", role: "alert", hidden: true });
    const form = h(
      "form",
      { class: "in-line" },
      field("Number", to),
      field("Keyword", word),
      h("button", { type: "submit", class: "button" }, "Add"),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      this.wordsRefused.hidden = true;
      try {
        const { keywords } = await api.addKeyword({ to: to.value.trim(), keyword: word.value.trim() });
        notify(`Keyword ${word.value.trim()} added`);
        word.value = "";
        this.#drawKeywords(keywords);
      } catch (error) {
        this.wordsRefused.textContent = error.message;
        this.wordsRefused.hidden = false;
      }
    });
    fill(
      this.keywords,
      h("h2", null, "Keywords of receiving numbers"),
      h("p", { class: "muted" }, "A message from a phone that begins with the keyword of its receiver is reported with it."),
      this.words,
      form,
      this.wordsRefused,
    );
  }

  async #loadKeywords() {
    try {
      const { keywords } = await api.keywords();
      this.#drawKeywords(keywords);
    } catch (error) {
      fill(this.words, h("li", { class: "muted" }, error.message));
    }
  }

  #drawKeywords(keywords) {
    fill(
      this.words,
      keywords.length === 0
        ? h("li", { class: "muted" }, "No keyword yet.")
        : keywords.map(({ to, keyword }) =>
            h("li", null, h("code", null, isolated(to)), " ", h("span", { class: "badge" }, isolated(keyword))),
          ),
    );
  }
}

function askReset() {
  confirmFirst(
    "Reset the simulator?",
    "All messages, requests, pushes, links, clicks and faults are deleted, and the clock restarts. This cannot be undone.",
    "Delete everything",
    async () => {
      await api.reset();
      notify("The simulator was reset");
    },
  );
}
