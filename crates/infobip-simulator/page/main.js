// The page of the simulator: shows the view that the address names, follows the stream, keeps the bar at the top.
//
// Invariants: one view is in the document at a time, and the others keep their state; the page asks for nothing outside its own
// address. Neighbours: `phones`, `account`, `controls` are the views, `live` is the stream.

import { AccountView } from "./account.js";
import { announce } from "./announce.js";
import { ControlsView } from "./controls.js";
import { showKeys } from "./dialogs.js";
import { fill, h, icon } from "./dom.js";
import { fullDay, withSeconds } from "./format.js";
import { clockState, connect, follow, live, nowMs } from "./live.js";
import { PhonesView } from "./phones.js";
import { oneLine } from "./plain-text.js";
import { go, route } from "./route.js";

const VIEWS = {
  phones: { name: "Phones", icon: "phone", make: () => new PhonesView() },
  account: { name: "Account", icon: "account", make: () => new AccountView() },
  controls: { name: "Controls", icon: "controls", make: () => new ControlsView() },
};

const main = document.getElementById("content");
const views = new Map();
let shown = null;

const links = new Map(
  Object.entries(VIEWS).map(([id, view]) => [
    id,
    h("a", { href: `#/${id}` }, icon(view.icon), h("span", null, view.name), h("span", { class: "count", hidden: true })),
  ]),
);
const time = h("strong");
const date = h("span", { class: "clock-date" });
const pace = h("span");

function drawFrame() {
  fill(document.getElementById("views"), ...links.values());
  fill(
    document.getElementById("clock-chip"),
    h(
      "a",
      { class: "clock-chip", href: "#/controls", title: "The virtual clock: to the controls" },
      icon("clock"),
      h("span", { class: "visually-hidden" }, "Virtual clock"),
      date,
      time,
      pace,
    ),
  );
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
}

function tick() {
  const now = nowMs();
  const { speed, frozen } = clockState();
  time.textContent = withSeconds(now);
  date.textContent = fullDay(now);
  pace.textContent = frozen ? "frozen" : speed === 1 ? "" : `× ${speed}`;
  shown?.tick();
}

function showRoute() {
  const to = route();
  if (!views.has(to.view)) views.set(to.view, VIEWS[to.view].make());
  const view = views.get(to.view);
  if (view !== shown) {
    const first = shown === null;
    fill(main, view.element);
    shown = view;
    for (const [id, link] of links) {
      if (id === to.view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (!first) announce(view.title);
  }
  const what = to.view === "phones" && to.number ? oneLine(to.number).slice(0, 40) : view.title;
  document.title = `${what} · smsbridge simulator`;
  view.show(to);
}

function showConnection() {
  const { connection } = live;
  const words = { connecting: "Connecting", live: "Live", lost: "Disconnected", refused: "Not live" };
  const element = document.getElementById("connection");
  element.dataset.state = connection;
  fill(element, h("span", null, words[connection]));
  const banner = document.getElementById("banner");
  const what = {
    lost: "The simulator does not answer. What you see may be old; the page connects again by itself.",
    refused: "The simulator answers, but its stream of changes does not: too many pages may be open. What you see may be old.",
  }[connection];
  if (what) {
    const now = h("button", { type: "button", class: "button small", on: { click: connect } }, "Try now");
    fill(banner, h("div", { class: "lost" }, h("span", null, what), now));
  } else {
    fill(banner);
  }
}

function showCounts() {
  const faults = live.counts?.faults ?? 0;
  const badge = links.get("controls").querySelector(".count");
  badge.hidden = faults === 0;
  fill(badge, String(faults), h("span", { class: "visually-hidden" }, faults === 1 ? " fault is on" : " faults are on"));
}

function heard(kind, data) {
  if (kind === "connection") showConnection();
  if (kind === "clock") tick();
  showCounts();
  for (const view of views.values()) view.heard(kind, data);
}

function onKey(event) {
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    const search = () => document.getElementById("search");
    // Another view is shown, or a conversation that hides the list of a narrow window.
    if (!search()?.checkVisibility()) go({ view: "phones", number: null, message: null, row: null });
    search()?.focus();
  } else if (event.key === "F1") {
    event.preventDefault();
    showKeys();
  }
}

drawFrame();
follow(heard);
addEventListener("hashchange", showRoute);
addEventListener("keydown", onKey);
showConnection();
showRoute();
connect();
setInterval(tick, 1000);
