// The virtual clock: what it shows, how fast it runs, and how to advance it.

import * as api from "./api.js";
import { notify } from "./announce.js";
import { field } from "./composer.js";
import { fill, h, icon } from "./dom.js";
import { fullDay, withSeconds } from "./format.js";
import { clockState, nowMs, setClockState } from "./live.js";

const MINUTE_MS = 60_000;
const STEPS = [
  ["1 minute", MINUTE_MS],
  ["1 hour", 60 * MINUTE_MS],
  ["1 day", 1440 * MINUTE_MS],
];
const SPEEDS = [1, 10, 60, 600, 3600];

export class ClockCard {
  constructor() {
    this.time = h("p", { class: "big", role: "timer", "aria-live": "off" });
    this.state = h("p", { class: "muted" });
    this.freeze = h("button", {
      type: "button",
      class: "button",
      on: { click: () => this.#set({ frozen: !clockState().frozen }) },
    });
    this.speed = h("select", { on: { change: () => this.#set({ speed: Number(this.speed.value) }) } });
    this.refused = h("p", { class: "refused", role: "alert", hidden: true });
    this.minutes = h("input", { type: "number", min: 1, max: 5_256_000, value: 10, required: true });
    this.steps = STEPS.map(([name, ms]) =>
      h(
        "button",
        { type: "button", class: "button", "aria-label": `Advance by + ${name}`, on: { click: () => this.#advance(name, ms) } },
        `+ ${name}`,
      ),
    );
    const form = h(
      "form",
      { class: "in-line" },
      field("Minutes", this.minutes),
      h("button", { type: "submit", class: "button" }, "Advance"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#advance(`${this.minutes.value} min`, Number(this.minutes.value) * MINUTE_MS);
    });
    this.element = h(
      "section",
      { class: "card", "aria-label": "Clock" },
      h("h2", null, "Clock"),
      this.time,
      this.state,
      h("div", { class: "steps", role: "group", "aria-label": "Advance the clock" }, this.steps),
      h("div", { class: "in-line" }, form, field("Speed", this.speed), this.freeze),
      h(
        "p",
        { class: "muted" },
        "Schedules, validity, deliveries and retries of pushes follow this clock. An advance fires every timer on the way.",
      ),
      this.refused,
    );
  }

  tick() {
    const now = nowMs();
    this.time.textContent = withSeconds(now);
    this.time.append(h("span", { class: "muted unit" }, fullDay(now)));
  }

  draw() {
    const { speed, frozen } = clockState();
    this.tick();
    this.state.textContent = frozen
      ? "Frozen: only an advance moves it."
      : `Runs at ${speed} virtual ${speed === 1 ? "second" : "seconds"} per second.`;
    if (this.drawn === JSON.stringify([speed, frozen])) return;
    this.drawn = JSON.stringify([speed, frozen]);
    fill(this.freeze, icon(frozen ? "run" : "freeze"), frozen ? "Run" : "Freeze");
    const speeds = SPEEDS.includes(speed) ? SPEEDS : [...SPEEDS, speed].sort((a, b) => a - b);
    fill(
      this.speed,
      speeds.map((value) => h("option", { value, selected: value === speed }, `× ${value}`)),
    );
  }

  async #set(change) {
    this.refused.hidden = true;
    try {
      setClockState(await api.setClock(change));
      const { speed, frozen } = clockState();
      notify(frozen ? "The clock is frozen" : `The clock runs × ${speed}`);
      this.draw();
    } catch (error) {
      this.#failed(error);
    }
  }

  async #advance(name, ms) {
    this.refused.hidden = true;
    for (const button of this.steps) button.setAttribute("aria-disabled", "true");
    if (this.advancing) return;
    this.advancing = true;
    try {
      setClockState(await api.setClock({ advanceMs: ms }));
      notify(`The clock was advanced by ${name}`);
    } catch (error) {
      this.#failed(error);
    } finally {
      this.advancing = false;
      for (const button of this.steps) button.removeAttribute("aria-disabled");
    }
  }

  #failed(error) {
    this.refused.textContent = error.message;
    this.refused.hidden = false;
  }
}
