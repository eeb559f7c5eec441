// A list of any length of which only the rows in sight are in the document; more rows are loaded as the end comes into sight.
// It is a listbox: one stop of the Tab key, arrow keys move and select, a screen reader hears position and length.
//
// Invariants: at most MAX_ROWS rows are in the document and MAX_LOADED in memory; answers to a question of before a restart are
// discarded; a row in sight keeps its place when others move above it.

import { fill, h } from "./dom.js";

const OVERSCAN = 8;
const MAX_ROWS = 120;
const MAX_LOADED = 50_000;

export class WindowedList {
  /**
   * `load(cursor)` resolves to `{ rows, cursor }`, without a cursor from the beginning; `key(row)` identifies a row, `order(row)`
   * differs after it has moved; `draw(row)` gives its nodes; `select(row)` is called when a person selects one, `open(row)` on
   * Enter, `failed(error)` when rows cannot be loaded, `changed()` when the loaded rows have changed; `total()` is the length of
   * the list, if it is known.
   */
  constructor(options) {
    const { label, rowHeight } = options;
    this.options = options;
    this.rowHeight = rowHeight;
    this.elements = new Map();
    this.clear();
    this.activeKey = null;
    this.activeIndex = -1;
    this.space = h("div", { class: "list-space", role: "presentation" });
    const on = { scroll: () => this.#soon(), keydown: (event) => this.#key(event), click: (event) => this.#click(event) };
    this.element = h("div", { class: "list", role: "listbox", tabindex: 0, "aria-label": label, on }, this.space);
    new ResizeObserver(() => this.#soon()).observe(this.element);
  }

  /** Forgets all rows. */
  clear() {
    this.rows = [];
    this.#begin();
  }

  #begin() {
    this.generation = (this.generation ?? 0) + 1;
    this.cursor = undefined;
    this.loading = null;
    this.outdated = true;
  }

  /** Loads from the beginning. The rows stay until the answer is there. */
  async restart() {
    this.#begin();
    this.element.scrollTop = 0;
    await this.more();
  }

  /** Loads the next rows. */
  more() {
    if (this.cursor === null) return Promise.resolve();
    this.loading ??= this.#load(this.generation);
    return this.loading;
  }

  async #load(generation) {
    try {
      const { rows, cursor } = await this.options.load(this.cursor);
      if (generation !== this.generation) return;
      if (this.outdated) this.rows = [];
      this.outdated = false;
      const known = new Set(this.rows.map(this.options.key));
      this.rows.push(...rows.filter((row) => !known.has(this.options.key(row))));
      this.cursor = this.rows.length >= MAX_LOADED ? null : cursor;
      this.loading = null;
      this.#changed();
    } catch (error) {
      if (generation !== this.generation) return;
      this.loading = null;
      // The place where the rows continued was evicted, or deleted by a reset.
      if (this.cursor !== undefined && error.fields?.includes("cursor")) this.restart();
      else this.options.failed(error);
    }
  }

  /**
   * Takes over the beginning of the list as it is now. `older(row)` says whether a row that is already loaded belongs after it.
   */
  renew(rows, cursor, older) {
    const top = this.#topRow();
    const { key, order } = this.options;
    const fresh = new Map(rows.map((row) => [key(row), order(row)]));
    const rest = this.outdated ? [] : this.rows.filter((row) => !fresh.has(key(row)) && older(row));
    // Rows may be missing in between unless one is where it was: those that have moved say nothing about the others.
    const joined = this.rows.some((row) => fresh.get(key(row)) === order(row));
    const kept = joined ? rest : [];
    this.rows = [...rows, ...kept];
    if (kept.length === 0) {
      // What is being loaded continues another list.
      this.#begin();
      this.cursor = cursor;
      this.outdated = false;
    }
    this.#keepInSight(top);
    this.#changed();
  }

  /** Replaces a loaded row. */
  replace(row) {
    const index = this.#indexOf(this.options.key(row));
    if (index >= 0) this.rows[index] = row;
    this.#soon();
  }

  get atTop() {
    return this.element.scrollTop < this.rowHeight;
  }

  /** The rows in sight. */
  inSight() {
    return this.rows.slice(...this.#sight());
  }

  /** Draws all rows again: what they are drawn with has changed. */
  redraw() {
    for (const element of this.elements.values()) element.drawn = undefined;
    this.#soon();
  }

  /** Marks a row as selected without calling `select`. */
  mark(key) {
    this.activeKey = key;
    this.activeIndex = this.#indexOf(key);
    this.#soon();
  }

  #topRow() {
    const index = Math.floor(this.element.scrollTop / this.rowHeight);
    return index > 0 && this.rows[index] ? { key: this.options.key(this.rows[index]), index } : null;
  }

  #keepInSight(top) {
    if (!top) return;
    const index = this.#indexOf(top.key);
    if (index >= 0 && index !== top.index) {
      this.#resize();
      this.element.scrollTop += (index - top.index) * this.rowHeight;
    }
  }

  #changed() {
    if (this.activeKey !== null) this.activeIndex = this.#indexOf(this.activeKey);
    this.#draw();
    this.options.changed();
  }

  #indexOf(key) {
    return this.rows.findIndex((row) => this.options.key(row) === key);
  }

  // One more than the loaded rows while there is more to load: its place says so.
  get length() {
    return this.rows.length + (this.cursor === null ? 0 : 1);
  }

  #sight() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.rowHeight) - OVERSCAN);
    const rows = Math.ceil((this.element.clientHeight || 800) / this.rowHeight) + 2 * OVERSCAN;
    return [first, Math.min(this.length, first + Math.min(rows, MAX_ROWS))];
  }

  #soon() {
    this.drawing ??= requestAnimationFrame(() => this.#draw());
  }

  #resize() {
    const height = `${this.length * this.rowHeight}px`;
    if (this.space.style.height !== height) this.space.style.height = height;
  }

  #draw() {
    cancelAnimationFrame(this.drawing);
    this.drawing = null;
    this.#resize();
    const [first, last] = this.#sight();
    for (const [index, element] of this.elements) {
      if (index < first || index >= last) {
        element.remove();
        this.elements.delete(index);
      }
    }
    let before = null;
    for (let index = last - 1; index >= first; index -= 1) before = this.#place(index, before);
    if (this.elements.has(this.activeIndex)) this.element.setAttribute("aria-activedescendant", `row-${this.activeIndex}`);
    else this.element.removeAttribute("aria-activedescendant");
    if (last === this.length && this.cursor !== null && this.element.isConnected) this.more();
  }

  #place(index, before) {
    let element = this.elements.get(index);
    if (!element) {
      element = h("div", { class: "row", role: "option", id: `row-${index}` });
      element.style.transform = `translateY(${index * this.rowHeight}px)`;
      this.elements.set(index, element);
      this.space.insertBefore(element, before);
    }
    const row = this.rows[index];
    if (element.drawn !== (row ?? null)) {
      fill(element, row ? this.options.draw(row) : h("span", { class: "row-loading" }, "Loading…"));
      element.drawn = row ?? null;
    }
    const total = this.cursor === null ? this.rows.length : (this.options.total() ?? -1);
    element.setAttribute("aria-setsize", total);
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-selected", row !== undefined && this.options.key(row) === this.activeKey);
    return element;
  }

  async #activate(wanted) {
    if (this.rows.length === 0) return;
    if (wanted >= this.rows.length) await this.more();
    const index = Math.max(0, Math.min(this.rows.length - 1, wanted));
    const top = index * this.rowHeight;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.rowHeight > scrollTop + clientHeight) this.element.scrollTop = top + this.rowHeight - clientHeight;
    this.activeIndex = index;
    this.activeKey = this.options.key(this.rows[index]);
    this.#draw();
    this.options.select(this.rows[index]);
  }

  #click(event) {
    // A row may have been replaced between press and release; then the place of the pointer says which one was meant.
    const row = event.target.closest(".row");
    const top = this.element.getBoundingClientRect().top;
    const index = row ? Number(row.id.slice(4)) : Math.floor((event.clientY - top + this.element.scrollTop) / this.rowHeight);
    if (index < this.rows.length) this.#activate(index);
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.rowHeight) - 1);
    const to = {
      ArrowDown: this.activeIndex + 1,
      ArrowUp: this.activeIndex - 1,
      PageDown: this.activeIndex + page,
      PageUp: this.activeIndex - page,
      Home: 0,
      End: this.rows.length - 1,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.#activate(to);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      const row = this.rows[Math.max(0, this.activeIndex)];
      if (row) this.options.open(row);
    }
  }
}
