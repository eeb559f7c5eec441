// Outcomes by number: a table to pick from, which gives a number to copy or to send to.

import * as api from "./api.js";
import { copyValue } from "./copy.js";
import { sendToPhone } from "./dialogs.js";
import { fill, h, icon, tableHead } from "./dom.js";

const LAST_DIGITS = "1234";

export class OutcomesCard {
  constructor() {
    this.body = h("div", null, h("p", { class: "muted" }, "Loading…"));
    this.element = h(
      "section",
      { class: "card outcomes", "aria-label": "Outcomes by number" },
      h("h2", null, "Outcomes by number"),
      this.body,
    );
  }

  async load() {
    if (this.outcomes) return;
    try {
      const { outcomes, statuses, errors } = await api.outcomes();
      Object.assign(this, { outcomes, tables: { statuses, errors } });
      this.#draw();
    } catch (error) {
      fill(this.body, h("p", { class: "muted" }, error.message));
    }
  }

  #draw() {
    this.picked = h("div", { class: "picked", role: "status" });
    const rows = this.outcomes.map((outcome, index) => {
      const input = this.#parameter(outcome);
      const radio = h("input", {
        type: "radio",
        name: "outcome",
        id: `outcome-${index}`,
        on: { change: () => this.#pick(outcome, input) },
      });
      input?.addEventListener("input", () => {
        radio.checked = true;
        this.#pick(outcome, input);
      });
      if (index === 0) {
        radio.checked = true;
        this.#pick(outcome, input);
      }
      return h(
        "tr",
        null,
        h("td", null, radio),
        h(
          "td",
          null,
          h("label", { for: radio.id }, h("code", null, outcome.prefix), " ", outcome.title),
          input && h("div", { class: "field" }, input),
        ),
      );
    });
    fill(
      this.body,
      h(
        "p",
        { class: "muted" },
        "The first digits of a destination choose what becomes of its message. Every other number is delivered.",
      ),
      h(
        "div",
        { class: "table-frame", tabindex: 0, role: "group", "aria-label": "Outcomes" },
        h("table", null, tableHead("Pick", "What happens to the message"), h("tbody", null, rows)),
      ),
      this.picked,
    );
  }

  // It begins with the parameter of the example.
  #parameter({ prefix, parameter, table, digits, example }) {
    if (!parameter) return null;
    const first = Number(example.slice(prefix.length, prefix.length + digits));
    const label = `${parameter} of the outcome`;
    if (table) {
      const options = this.tables[table].map(({ id, name }) =>
        h("option", { value: id, selected: id === first }, `${id} ${name}`),
      );
      return h("select", { "aria-label": label }, options);
    }
    return h("input", { type: "number", min: 0, max: 10 ** digits - 1, value: first, "aria-label": label });
  }

  #pick({ prefix, digits, description }, input) {
    const number =
      prefix +
      (input
        ? String(input.value || 0)
            .padStart(digits, "0")
            .slice(0, digits)
        : "") +
      LAST_DIGITS;
    fill(
      this.picked,
      h("p", { class: "muted" }, description),
      h(
        "div",
        { class: "button-row" },
        copyValue("number", number),
        h(
          "button",
          { type: "button", class: "button small", on: { click: () => sendToPhone(number) } },
          icon("send"),
          "Send a text to it",
        ),
      ),
    );
  }
}
