// The view of the account: credit, counts, rate, what was refused, how to connect, and the last requests with body and answer.

import * as api from "./api.js";
import { connectLines } from "./connect-lines.js";
import { copyBox, copyValue } from "./copy.js";
import { fill, h, icon, tableHead } from "./dom.js";
import { count, stateIcon, STATES } from "./format.js";
import { atMost } from "./live.js";
import { RequestList } from "./request-list.js";

export class AccountView {
  constructor() {
    this.title = "Account";
    this.trouble = h("div");
    this.numbers = h("section", { class: "card", "aria-label": "Credit and messages" });
    this.rate = h("section", { class: "card", "aria-label": "Requests" });
    this.refused = h("section", { class: "card", "aria-label": "What was refused" });
    this.stored = h("section", { class: "card wide", "aria-label": "Stored" });
    this.connect = h("section", { class: "card wide", "aria-label": "Connect" });
    this.requests = new RequestList();
    this.drawn = new Map();
    this.element = h(
      "div",
      { class: "page" },
      h("h1", null, "Account"),
      this.trouble,
      h("div", { class: "cards" }, this.numbers, this.rate, this.refused, this.stored, this.connect, this.requests.element),
    );
    this.renewSoon = atMost(1000, () => this.#renew());
  }

  show() {
    if (this.drawn.size === 0) fill(this.numbers, h("p", { class: "loading" }, "Loading…"));
    this.renewSoon();
    this.requests.change();
  }

  tick() {
    // The rate falls while nothing happens.
    this.renewSoon();
  }

  heard(kind, data) {
    if (kind === "connection") return;
    this.renewSoon();
    if (kind !== "change" || data.requestsChanged) this.requests.change(kind === "reset");
  }

  async #renew() {
    if (!this.element.isConnected) return;
    try {
      this.#draw(await api.account());
      this.#once(this.trouble, null, () => null);
    } catch (error) {
      this.#once(this.trouble, error.message, () => this.#failure(error));
    }
  }

  #failure(error) {
    const again = h("button", { type: "button", class: "button small", on: { click: () => this.renewSoon() } }, "Try again");
    return h("div", { class: "error-box", role: "alert" }, h("span", null, error.message), again);
  }

  #draw(account) {
    const { credit, states, stored, requests, rejections, credentials, bridge, inbound } = account;
    this.#once(this.numbers, [credit, states], () => numbers(account));
    this.#once(this.stored, stored, () => storedAmounts(stored));
    this.#once(this.rate, [requests.total, requests.lastSecond, requests.perSecond], () => rate(requests));
    this.#once(this.refused, [requests.refused, rejections], () => refusals(account));
    this.#once(this.connect, [credentials, bridge, inbound], () => connections(account));
  }

  // Draws a part if its data has changed. What is selected stays otherwise, and the focus in any case.
  #once(part, data, nodes) {
    const json = JSON.stringify(data);
    if (this.drawn.get(part) === json) return;
    this.drawn.set(part, json);
    const stops = () => [...part.querySelectorAll("a, button, [tabindex]")];
    const focused = stops().indexOf(document.activeElement);
    fill(part, nodes());
    stops()[focused]?.focus({ preventScroll: true });
  }
}

function numbers({ credit, states }) {
  const amount = credit.unlimited
    ? "unlimited"
    : new Intl.NumberFormat("en", { maximumFractionDigits: 4 }).format(credit.balance);
  return [
    h("h2", null, "Credit"),
    h("p", { class: "big" }, amount, h("span", { class: "muted unit" }, credit.currency)),
    h(
      "ul",
      { class: "state-counts", "aria-label": "Messages by state" },
      STATES.map((state) =>
        h(
          "li",
          null,
          h(
            "a",
            { href: `#/phones?state=${state}` },
            h("span", { class: `badge ${state}` }, icon(stateIcon(state)), state),
            h("strong", null, count(states[state])),
          ),
        ),
      ),
    ),
  ];
}

function storedAmounts(stored) {
  return [
    h("h2", null, "Stored"),
    h(
      "dl",
      { class: "stored" },
      [
        ["Phones", stored.phones],
        ["Messages stored", stored.messages],
        ["Received from phones", stored.received],
        ["Reports to be pulled", stored.unreadReports],
        ["Inbox to be pulled", stored.unreadReceived],
        ["Pushes pending", stored.pendingPushes],
        ["Short links, clicks", `${count(stored.links)}, ${count(stored.clicks)}`],
        ["Evicted", stored.evicted],
      ].map(([name, value]) =>
        h("div", null, h("dt", null, name), h("dd", null, typeof value === "number" ? count(value) : value)),
      ),
    ),
  ];
}

function rate({ total, lastSecond, lastMinute, perSecond }) {
  const highest = Math.max(1, ...perSecond);
  const bars = perSecond.map((value) => {
    const bar = h("span");
    bar.style.height = `${Math.max(value > 0 ? 6 : 2, (100 * value) / highest)}%`;
    return bar;
  });
  return [
    h("h2", null, "Requests"),
    h("p", { class: "big" }, count(lastSecond), h("span", { class: "muted unit" }, "in the last second")),
    h(
      "div",
      {
        class: "bars",
        role: "img",
        "aria-label": `Requests in each of the last 60 seconds: ${count(lastMinute)} in all, at most ${count(Math.max(...perSecond, 0))} in one`,
      },
      bars,
    ),
    h("p", { class: "muted" }, `${count(lastMinute)} in the last minute, ${count(total)} since the start`),
  ];
}

function refusals({ requests, rejections }) {
  const rows = [
    ...requests.refused.map(({ status, reason, text, count: amount }) => [status ?? "no answer", reason, text, amount]),
    ...rejections.map(({ status, count: amount }) => ["destination", status.name, status.description, amount]),
  ];
  return [
    h("h2", null, "Refused, and why"),
    rows.length === 0
      ? h("p", { class: "muted" }, "No request was refused, and no destination rejected.")
      : h(
          "div",
          { class: "table-frame", tabindex: 0, role: "group", "aria-label": "Refused requests and destinations" },
          h(
            "table",
            null,
            tableHead("Answer", "Reason", "Count"),
            h(
              "tbody",
              null,
              rows.map(([status, reason, text, amount]) =>
                h(
                  "tr",
                  null,
                  h("td", null, status),
                  h("td", null, h("code", null, reason), h("div", { class: "muted" }, text)),
                  h("td", { class: "amount" }, count(amount)),
                ),
              ),
            ),
          ),
        ),
  ];
}

function connections(account) {
  const { credentials } = account;
  const pairs = [
    ["Base URL", location.origin],
    ["User name", credentials.username],
    ["Password", credentials.password],
    ["Authorization", credentials.basic],
    ["API key", credentials.apiKey],
  ];
  return [
    h("h2", null, "Connect"),
    h(
      "dl",
      { class: "facts centred" },
      pairs.filter(([, value]) => value).map(([name, value]) => [h("dt", null, name), h("dd", null, copyValue(name, value))]),
    ),
    h(
      "div",
      { class: "lines" },
      connectLines(account).map(({ name, text, note }) => copyBox(name, text, note)),
    ),
  ];
}
