// Texts to copy: a value or a command with a button.

import { h, icon } from "./dom.js";
import { notify } from "./announce.js";

async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
    notify(`Copied: ${name}`);
  } catch {
    notify("The browser refused the clipboard. Select the text and copy it by hand.");
  }
}

/** A command or a value in a box, with its name and a button that copies it. */
export function copyBox(name, text, note) {
  const value = h("pre", { tabindex: 0, role: "group", "aria-label": `${name}: text` }, text);
  return h(
    "div",
    { class: "copy-box" },
    h(
      "div",
      { class: "copy-head" },
      h("h3", null, name),
      h(
        "button",
        { type: "button", class: "button small", "aria-label": `Copy: ${name}`, on: { click: () => copy(text, name) } },
        icon("copy"),
        "Copy",
      ),
    ),
    value,
    note
      ? h(
          "p",
          { class: "muted note" },
          note.split("`").map((part, index) => (index % 2 === 1 ? h("code", null, part) : part)),
        )
      : null,
  );
}

/** A value in a row of a list, with a small button that copies it. */
export function copyValue(name, text) {
  return h(
    "span",
    { class: "copy-value" },
    h("code", null, text),
    h(
      "button",
      {
        type: "button",
        class: "icon-button small",
        "aria-label": `Copy: ${name}`,
        title: `Copy: ${name}`,
        on: { click: () => copy(text, name) },
      },
      icon("copy"),
    ),
  );
}
