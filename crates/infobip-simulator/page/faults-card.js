// Faults: those that are on, with their counters, and a form for one more that follows the kinds the simulator names.

import * as api from "./api.js";
import { notify } from "./announce.js";
import { field } from "./composer.js";
import { fill, h, icon, tableHead } from "./dom.js";
import { count } from "./format.js";
import { atMost } from "./live.js";
import { oneLine } from "./plain-text.js";

const NOT_PARAMETERS = new Set(["id", "kind", "matched", "struck"]);

export class FaultsCard {
  constructor() {
    this.list = h("div", null, h("p", { class: "muted" }, "Loading…"));
    this.kind = h("select", { on: { change: () => this.#drawParameters() } });
    this.about = h("p", { class: "muted" });
    this.parameters = h("div", { class: "parameters" });
    this.refused = h("p", { class: "refused", role: "alert", hidden: true });
    const form = h(
      "form",
      { class: "fault-form" },
      field("Kind", this.kind),
      this.about,
      this.parameters,
      this.refused,
      h("div", null, h("button", { type: "submit", class: "button main" }, icon("bolt"), "Switch on")),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add();
    });
    this.element = h(
      "section",
      { class: "card faults", "aria-label": "Faults" },
      h("h2", null, "Faults"),
      this.list,
      h("h3", null, "Another fault"),
      form,
    );
    this.renewSoon = atMost(600, () => this.#renew());
  }

  /** Counters or faults may have changed. */
  change() {
    this.renewSoon();
  }

  async #renew() {
    if (!this.element.isConnected) return;
    try {
      if (!this.kinds) this.#drawKinds(await api.faultKinds());
      const { faults } = await api.faults();
      this.#draw(faults);
    } catch (error) {
      this.drawn = null;
      fill(this.list, h("p", { class: "muted" }, error.message));
    }
  }

  #draw(faults) {
    const json = JSON.stringify(faults);
    if (json === this.drawn) return;
    this.drawn = json;
    const focused = document.activeElement?.dataset.fault;
    fill(
      this.list,
      faults.length === 0
        ? h("p", { class: "muted" }, "No fault is on: every request is answered as the API does.")
        : this.#table(faults),
    );
    if (focused !== undefined) this.list.querySelector(`[data-fault="${CSS.escape(focused)}"]`)?.focus();
  }

  #table(faults) {
    const rows = faults.map((fault) =>
      h(
        "tr",
        null,
        h("th", { scope: "row" }, h("code", null, fault.kind)),
        h("td", null, parametersOf(fault)),
        h("td", { class: "amount" }, count(fault.matched)),
        h("td", { class: "amount" }, count(fault.struck)),
        h(
          "td",
          null,
          h(
            "button",
            {
              type: "button",
              class: "button small",
              "data-fault": fault.id,
              "aria-label": `Switch off ${fault.kind}`,
              on: { click: () => this.#remove(fault) },
            },
            "Off",
          ),
        ),
      ),
    );
    return [
      h(
        "div",
        { class: "table-frame", tabindex: 0, role: "group", "aria-label": "Faults that are on" },
        h("table", null, tableHead("Kind", "With", "Matched", "Applied", null), h("tbody", null, rows)),
      ),
      faults.length > 1 &&
        h(
          "button",
          { type: "button", class: "button small danger", "data-fault": "all", on: { click: () => this.#remove(null) } },
          "Switch all off",
        ),
    ];
  }

  #drawKinds({ kinds, parameters }) {
    this.kinds = kinds;
    this.common = parameters;
    fill(
      this.kind,
      kinds.map(({ kind }) => h("option", { value: kind }, kind)),
    );
    this.#drawParameters();
  }

  #drawParameters() {
    const kind = this.kinds.find((candidate) => candidate.kind === this.kind.value);
    this.about.textContent = `${kind.description} For ${kind.appliesTo}.`;
    this.inputs = [...kind.parameters, ...this.common].map((parameter) => ({ parameter, input: inputFor(parameter) }));
    fill(
      this.parameters,
      this.inputs.map(({ parameter, input }) =>
        parameter.type === "boolean"
          ? h("label", { class: "check", title: parameter.description }, input, parameter.name)
          : field(`${parameter.name}${parameter.required ? " (needed)" : ""}`, input),
      ),
    );
  }

  async #add() {
    this.refused.hidden = true;
    try {
      const fault = { kind: this.kind.value };
      for (const { parameter, input } of this.inputs) {
        const value = valueOf(parameter, input);
        if (value !== undefined) fault[parameter.name] = value;
      }
      await api.addFault(fault);
      notify(`The fault ${fault.kind} is on`);
      this.renewSoon();
    } catch (error) {
      this.refused.textContent = error.message;
      this.refused.hidden = false;
    }
  }

  async #remove(fault) {
    try {
      await api.removeFaults(fault?.id);
      notify(fault ? `The fault ${fault.kind} is off` : "All faults are off");
    } catch (error) {
      notify(error.message);
    }
    this.kind.focus();
    this.renewSoon();
  }
}

function parametersOf(fault) {
  const given = Object.entries(fault).filter(
    ([name, value]) => !NOT_PARAMETERS.has(name) && value !== null && value !== false && !(name === "probability" && value === 1),
  );
  return given.length === 0
    ? h("span", { class: "muted" }, "always")
    : given.map(([name, value]) => h("div", null, `${name} `, h("code", null, oneLine(JSON.stringify(value)))));
}

function inputFor({ type, required, min, max, default: standard, description }) {
  if (type === "boolean") return h("input", { type: "checkbox" });
  const placeholder = standard === null || standard === undefined ? "" : String(standard);
  const common = {
    required,
    placeholder,
    title: description,
    "aria-description": description,
    autocomplete: "off",
    spellcheck: "false",
  };
  return type === "integer" || type === "number"
    ? h("input", { type: "number", min, max, step: type === "integer" ? 1 : "any", ...common })
    : h("input", { type: "text", ...common });
}

function valueOf({ type }, input) {
  if (type === "boolean") return input.checked ? true : undefined;
  if (input.value === "") return undefined;
  if (type === "integer" || type === "number") return Number(input.value);
  if (type !== "json") return input.value;
  try {
    return JSON.parse(input.value);
  } catch {
    return input.value;
  }
}
