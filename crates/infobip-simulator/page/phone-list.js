// The list of phones: newest activity first, with a search and a filter by state.
//
// Neighbours: `phones` shows the phone that is selected, `windowed-list` keeps the document small.

import * as api from "./api.js";
import { showKeys } from "./dialogs.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { count, plural, stateIcon, STATES, whenInList } from "./format.js";
import { atMost, live, nowMs } from "./live.js";
import { oneLine } from "./plain-text.js";
import { go } from "./route.js";
import { WindowedList } from "./windowed-list.js";

const PAGE = 60;
const SEARCH_WAIT_MS = 220;
const MAX_SINGLE_UPDATES = 10;

export class PhoneList {
  constructor({ open, writeAsPhone, sendToPhone }) {
    this.q = "";
    this.state = "";
    this.changedNumbers = new Set();
    this.list = new WindowedList({
      label: "Phones, newest first",
      rowHeight: 70,
      load: (cursor) => this.#load(cursor),
      key: (phone) => phone.number,
      order: (phone) => phone.activity,
      draw: (phone) => drawRow(phone),
      select: (phone) => go({ view: "phones", number: phone.number, message: null, row: null }),
      open,
      failed: (error) => this.#failed(error),
      changed: () => this.#count(),
      total: () => (this.q || this.state ? null : live.counts?.phones),
    });
    this.search = h("input", {
      type: "search",
      id: "search",
      placeholder: "Number, text or message id",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: 100,
      "aria-keyshortcuts": "Control+K",
      on: {
        input: () => this.#searchSoon(),
        keydown: (event) => {
          if (event.key === "ArrowDown") this.list.element.focus();
          if (event.key === "Escape" && this.search.value) {
            event.stopPropagation();
            this.search.value = "";
            this.#searchSoon();
          }
        },
      },
    });
    this.filters = h("div", { class: "filters", role: "group", "aria-label": "Only phones with a message of this state" });
    this.foot = h("p", { role: "status" });
    this.empty = h("div", { class: "empty", hidden: true });
    this.trouble = h("div");
    this.element = h(
      "section",
      { class: "phone-list", "aria-label": "Phones" },
      h(
        "div",
        { class: "list-head" },
        h(
          "div",
          { class: "list-title" },
          h("h1", null, "Phones"),
          h(
            "div",
            null,
            iconButton("send", "Send a text to a phone", sendToPhone),
            iconButton("plus", "Write as a phone", writeAsPhone),
          ),
        ),
        h(
          "div",
          { class: "search" },
          h("label", { for: "search", class: "visually-hidden" }, "Search phones by number, text or message id"),
          icon("search"),
          this.search,
        ),
        this.filters,
      ),
      h("div", { class: "list-body" }, this.trouble, this.empty, this.list.element),
      h(
        "div",
        { class: "list-foot" },
        this.foot,
        h("button", { type: "button", class: "plain-button", "aria-keyshortcuts": "F1", on: { click: showKeys } }, "Keys (F1)"),
      ),
    );
    this.renewSoon = atMost(500, () => this.#renew());
    // A search reads many messages: it is repeated less often.
    this.searchAgainSoon = atMost(2500, () => this.#renew());
    this.#drawFilters();
  }

  /** Shows the list of a route. */
  show({ q, state, number }) {
    this.list.mark(number);
    if (q === this.q && state === this.state && this.begun) return;
    this.begun = true;
    if (this.search.value.trim() !== q) this.search.value = q;
    this.q = q;
    this.state = state;
    this.#drawFilters();
    this.list.restart();
  }

  /** The counts have changed. */
  counted() {
    this.#drawFilters();
    if (this.begun) this.#count();
  }

  /** Takes over a change that the simulator told. */
  change(data) {
    for (const number of data.phones) this.changedNumbers.add(number);
    this.counted();
    if (data.allPhones || data.phones.length > 0) (this.q || this.state ? this.searchAgainSoon : this.renewSoon)();
  }

  reload() {
    this.renewSoon();
    this.#drawFilters();
  }

  /** Everything was deleted. */
  reset() {
    this.list.clear();
    this.list.restart();
    this.#drawFilters();
  }

  async #load(cursor) {
    const answer = await api.phones({ limit: PAGE, cursor, q: this.q, state: this.state });
    fill(this.trouble);
    return { rows: answer.phones, cursor: answer.cursor };
  }

  async #renew() {
    const { q, state } = this;
    try {
      const { phones, cursor } = await api.phones({ limit: PAGE, q, state });
      if (q !== this.q || state !== this.state) return;
      fill(this.trouble);
      const oldest = phones.at(-1)?.activity ?? -1;
      // Found phones have no order in which older ones could be told: a reader who has scrolled keeps what was found.
      if (!q && !state) this.list.renew(phones, cursor, (phone) => cursor !== null && phone.activity < oldest);
      else if (this.list.atTop) this.list.renew(phones, cursor, () => false);
      await this.#renewSingly(new Set(phones.map((phone) => phone.number)));
    } catch (error) {
      this.#failed(error);
    }
  }

  // Rows in sight far from the beginning, whose message changed its state without a new activity.
  async #renewSingly(fresh) {
    const changed = this.list.inSight().filter((phone) => this.changedNumbers.has(phone.number) && !fresh.has(phone.number));
    this.changedNumbers.clear();
    for (const { number } of changed.slice(0, MAX_SINGLE_UPDATES)) {
      const { phone } = await api.phone(number, { limit: 1 });
      this.list.replace(phone);
    }
  }

  #searchSoon() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => go({ q: this.search.value.trim() }, true), SEARCH_WAIT_MS);
  }

  #drawFilters() {
    const counts = live.counts;
    const wanted = [
      ["", "All", counts?.phones],
      ...STATES.map((state) => [state, state, counts?.states[state]]),
      ["received", "received", counts?.received],
    ];
    for (const [index, [state, name, amount]] of wanted.entries()) {
      let chip = this.filters.children[index];
      if (!chip) {
        chip = h("button", { type: "button", class: "chip", on: { click: () => go({ state }, true) } });
        this.filters.append(chip);
      }
      const text = state && amount ? `${name} ${count(amount)}` : name;
      if (chip.textContent !== text) chip.textContent = text;
      chip.setAttribute("aria-pressed", String(this.state === state));
    }
  }

  #count() {
    const { rows, cursor } = this.list;
    const nothing = rows.length === 0 && cursor === null;
    this.empty.hidden = !nothing;
    this.list.element.hidden = nothing;
    if (nothing) this.#drawEmpty();
    const searching = this.q || this.state;
    const more = cursor === null ? "" : "+";
    const text = searching ? `${plural(rows.length, "phone")}${more} found` : plural(live.counts?.phones ?? rows.length, "phone");
    if (this.foot.textContent !== text) this.foot.textContent = text;
  }

  #drawEmpty() {
    if (this.q || this.state) {
      const all = h("button", { type: "button", class: "button small", on: { click: () => this.#showAll() } }, "Show all phones");
      fill(
        this.empty,
        h("h2", null, "No phone found"),
        h("p", null, "No stored message matches the search and the filter."),
        all,
      );
    } else {
      fill(
        this.empty,
        h("h2", null, "No phone yet"),
        h("p", null, "A phone appears when a message is sent to it, or when it writes."),
      );
    }
  }

  #showAll() {
    this.search.value = "";
    go({ q: "", state: "" }, true);
    this.search.focus();
  }

  #failed(error) {
    const again = h("button", { type: "button", class: "button small", on: { click: () => this.list.restart() } }, "Try again");
    fill(this.trouble, h("div", { class: "error-box", role: "alert" }, h("span", null, error.message), again));
  }
}

/** Two digits on a colour, so that a phone is found again at a glance. */
export function avatar(number) {
  return h("span", { class: `avatar tone-${toneOf(number)}`, "aria-hidden": "true" }, number.slice(-2));
}

function toneOf(number) {
  return [...number].reduce((sum, character) => sum + character.codePointAt(0), 0) % 4;
}

function drawRow(phone) {
  const { last, match } = phone;
  const excerpt = match?.kind === "text" ? match.text : last.binary ? "binary message" : last.text;
  const mine = (match?.kind === "text" ? match.direction : last.direction) === "in";
  return [
    avatar(phone.number),
    h("span", { class: "row-number" }, h("bdi", null, oneLine(phone.number))),
    h("span", { class: "row-time" }, whenInList(phone.lastAtMs, nowMs())),
    h(
      "span",
      { class: "row-text" },
      h("span", { class: "visually-hidden" }, mine ? "from the phone: " : `from ${oneLine(last.sender)}: `),
      mine ? h("span", { "aria-hidden": "true" }, "↩ ") : null,
      h("bdi", { dir: "auto" }, oneLine(excerpt ?? "")),
    ),
    h(
      "span",
      { class: `row-state badge ${last.state}` },
      icon(last.state === "received" ? "check" : stateIcon(last.state)),
      h("span", { class: "visually-hidden" }, last.state),
    ),
  ];
}
