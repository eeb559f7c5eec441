// The last requests, newest first; each unfolds to its body and its answer.
//
// Invariants: an unfolded request stays where the reader sees it; at most MAX_ROWS requests are in the document; an answer from
// before the list began anew changes nothing.

import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { withSeconds } from "./format.js";
import { atMost } from "./live.js";
import { marked } from "./plain-text.js";
import { body } from "./story-parts.js";

const PAGE = 25;
const MAX_ROWS = 200;

export class RequestList {
  constructor() {
    this.rows = new Map();
    this.wanted = PAGE;
    this.beginnings = 0;
    this.items = h("ul", { class: "requests" });
    this.only = h("input", { type: "checkbox", on: { change: () => this.change(true) } });
    this.more = h(
      "button",
      { type: "button", class: "button small", hidden: true, on: { click: () => this.#showMore() } },
      "Show older requests",
    );
    this.none = h("p", { class: "muted" }, "Loading…");
    this.element = h(
      "section",
      { class: "card wide", "aria-label": "Last requests" },
      h(
        "div",
        { class: "card-head" },
        h("h2", null, "Last requests"),
        h("label", { class: "check" }, this.only, "only refused ones"),
      ),
      this.none,
      this.items,
      h("div", { class: "older" }, this.more),
    );
    this.renewSoon = atMost(700, () => this.#renew());
  }

  /** Requests were received; with `forget` the list begins anew. */
  change(forget = false) {
    if (forget) {
      this.beginnings += 1;
      this.rows.clear();
      fill(this.items);
      this.wanted = PAGE;
    }
    this.renewSoon();
  }

  #showMore() {
    this.wanted = Math.min(MAX_ROWS, this.wanted + PAGE);
    this.renewSoon();
  }

  async #renew() {
    if (!this.element.isConnected) return;
    const { beginnings } = this;
    try {
      // No row shows the ids of messages, of which a request may have thousands.
      const query = { limit: this.wanted, ids: 0, refused: this.only.checked ? true : null };
      const { requests } = await api.requests(query);
      if (beginnings === this.beginnings) this.#draw(requests.toReversed());
    } catch (error) {
      if (beginnings !== this.beginnings) return;
      this.none.textContent = error.message;
      this.none.hidden = false;
    }
  }

  #draw(requests) {
    this.none.textContent = this.only.checked ? "No request was refused." : "No request yet.";
    this.none.hidden = requests.length > 0;
    this.more.hidden = requests.length < this.wanted || this.wanted >= MAX_ROWS;
    const rows = new Map(requests.map((request) => [request.seq, this.rows.get(request.seq) ?? drawRequest(request)]));
    for (const [seq, row] of this.rows) if (!rows.has(seq)) row.remove();
    this.rows = rows;
    let next = this.items.firstElementChild;
    for (const row of rows.values()) {
      if (row === next) next = next.nextElementSibling;
      else this.items.insertBefore(row, next);
    }
  }
}

function drawRequest(request) {
  const { seq, method, path, query, status, fault, refused, recorded } = request;
  const detail = h("div", { class: "request-detail" });
  const good = status !== null && status < 400 && !fault;
  const element = h(
    "details",
    { class: "request" },
    h(
      "summary",
      null,
      h("span", { class: `badge ${good ? "good" : "bad"}` }, status ?? "no answer"),
      h(
        "span",
        { class: "request-name" },
        h("code", null, method),
        " ",
        h("code", { class: "path" }, marked(query ? `${path}?${query}` : path)),
      ),
      h("span", { class: "muted request-why" }, fault ? `fault ${fault}` : refused ? refused.text : ""),
      h("time", { class: "muted" }, withSeconds(request.atMs ?? request.at)),
    ),
    detail,
  );
  let loaded = false;
  element.addEventListener("toggle", async () => {
    if (!element.open || loaded) return;
    loaded = true;
    if (recorded === false) {
      fill(detail, h("p", { class: "muted" }, "Body and answer are not kept: only those of the newest 500 requests are."));
      return;
    }
    fill(detail, h("p", { class: "muted" }, "Loading…"));
    try {
      const full = await api.requestOf(seq);
      const ids = full.messageIds ?? [];
      fill(
        detail,
        ids.length > 0 &&
          h(
            "p",
            null,
            "Messages: ",
            ids.slice(0, 10).map((id) => [h("code", null, marked(id)), " "]),
            ids.length > 10 && `and ${ids.length - 10} more`,
          ),
        body("Body", full.body),
        body("Answer", full.answer),
      );
    } catch (error) {
      // A later unfolding tries again, unless the request is gone.
      loaded = error.status === 404;
      fill(detail, h("p", { class: "muted" }, error.status === 404 ? "This request is no longer in the log." : error.message));
    }
  });
  return h("li", null, element);
}
