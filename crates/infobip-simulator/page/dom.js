// Builds elements. Data becomes text nodes and attributes, never markup: no module of the page parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with properties and children.
 * `class` is the class list, `on` are listeners by event; a value of true, false or null sets or omits an attribute.
 */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  apply(element, properties ?? {});
  add(element, children);
  return element;
}

function apply(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "value") {
      element.value = value;
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
}

/** Appends nodes, strings and lists of them; leaves out null, undefined and false. */
export function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Replaces the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** The head of a table. A column without a name (null) has no heading. */
export function tableHead(...names) {
  const columns = names.map((name) => (name === null ? h("td") : h("th", { scope: "col" }, name)));
  return h("thead", null, h("tr", null, columns));
}

// Strokes in a square of 24.
const ICONS = {
  phone: "M8 2.5h8a2 2 0 0 1 2 2v15a2 2 0 0 1-2 2H8a2 2 0 0 1-2-2v-15a2 2 0 0 1 2-2zM11 18.5h2",
  account: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5a7.5 7.5 0 0 1 15 0",
  controls: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM20 20l-4.9-4.9",
  close: "M6 6l12 12M18 6L6 18",
  back: "M15 5l-7 7 7 7",
  copy: "M9 9h10v11H9zM5 15V4h10",
  send: "M4 12l16-8-6 16-3-6.5z",
  plus: "M12 5v14M5 12h14",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.5 2",
  freeze: "M9 5v14M15 5v14",
  run: "M7 5l11 7-11 7z",
  bolt: "M13 2.5L5 13.5h6l-1 8 8-11h-6z",
  check: "M4.5 12.5l5 5 10-11",
  cross: "M6 6l12 12M18 6L6 18",
  hourglass: "M7 3h10M7 21h10M8 3c0 5 8 6 8 9s-8 4-8 9M16 3c0 5-8 6-8 9s8 4 8 9",
  calendar: "M4 6h16v14H4zM4 10h16M8 3v4M16 3v4",
  link: "M10 14a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-5.7-5.7L12 7M14 10a4 4 0 0 0-6-.5l-3 3A4 4 0 0 0 10.700 18L12 17",
  down: "M6 9l6 6 6-6",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
};

/** A decorative icon: hidden from screen readers, because a text beside it says the same. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon whose name is read out and shown as a tooltip. */
export function iconButton(name, label, listener, properties = {}) {
  return h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: listener }, ...properties },
    icon(name),
  );
}
