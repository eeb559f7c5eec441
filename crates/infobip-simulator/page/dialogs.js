// The dialogs: a text to a phone through the simulated API, a message from a phone that did not write yet, a question before a
// deletion.
//
// Invariant: Escape closes a dialog, and the focus returns to where it was (both by the `dialog` element).

import * as api from "./api.js";
import { notify } from "./announce.js";
import { ANY_RECEIVER, binaryFields, field } from "./composer.js";
import { fill, h } from "./dom.js";
import { go } from "./route.js";

function show(title, intro, parts, { action, danger, run }) {
  const refused = h("p", { class: "refused", role: "alert", hidden: true });
  const act = h("button", { type: "submit", class: `button ${danger ? "danger" : "main"}` }, action);
  const cancel = h("button", { type: "button", class: "button", on: { click: () => dialog.close() } }, "Cancel");
  const form = h(
    "form",
    { class: "dialog-form" },
    h("h2", { id: "dialog-title" }, title),
    intro ? h("p", { class: "muted" }, intro) : null,
    parts,
    refused,
    h("div", { class: "actions" }, cancel, act),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    act.disabled = true;
    refused.hidden = true;
    try {
      await run();
      dialog.close();
    } catch (error) {
      refused.textContent = error.message;
      refused.hidden = false;
    } finally {
      act.disabled = false;
    }
  });
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("keydown", (event) => event.key === "Escape" && event.stopPropagation());
  document.body.append(dialog);
  dialog.showModal();
}

const numberInput = (value) =>
  h("input", { type: "text", inputmode: "tel", autocomplete: "off", spellcheck: "false", required: true, maxlength: 20, value });

/** Sends a text to a phone, as a client of the account does. */
export function sendToPhone(number) {
  const to = numberInput(number ?? "41793026727");
  const from = h("input", { type: "text", autocomplete: "off", required: true, maxlength: 16, value: "InfoSMS" });
  const text = h("textarea", { rows: 4, dir: "auto", required: true });
  text.value = "Your code is 482913. It expires in 5 minutes.";
  show(
    "Send a text to a phone",
    "The page calls POST /sms/1/text/single with the account's credentials. Faults and outcomes by number apply.",
    [h("div", { class: "two" }, field("To", to), field("From", from)), field("Text", text)],
    {
      action: "Send",
      run: async () => {
        const { credentials } = await api.account();
        const answer = await api.sendText(credentials.basic, { from: from.value, to: to.value.trim(), text: text.value });
        const [message] = answer.messages;
        notify(`${message.status.name} for ${to.value.trim()}`);
        go({ view: "phones", number: to.value.trim().replace(/^\+/u, ""), message: null, row: null, q: "", state: "" });
      },
    },
  );
}

/** A phone writes, perhaps for the first time. */
export function writeAsPhone() {
  const from = numberInput("41791234567");
  const to = numberInput(ANY_RECEIVER);
  const text = h("textarea", { rows: 4, dir: "auto", required: true });
  const hex = h("input", { type: "checkbox" });
  const binary = binaryFields();
  hex.addEventListener("change", () => {
    binary.element.hidden = !hex.checked;
  });
  show(
    "Write as a phone",
    "The account receives the message: it is pushed to its URL, or waits in its inbox.",
    [
      h("div", { class: "two" }, field("Phone", from), field("To", to)),
      field("Text, or octets in hex", text),
      h("label", { class: "check" }, hex, "The content is binary, in hex"),
      binary.element,
    ],
    {
      action: "Send",
      run: async () => {
        const content = hex.checked ? { hex: text.value, ...binary.value() } : { text: text.value };
        await api.receive({ from: from.value.trim(), to: to.value.trim(), ...content });
        notify(`Sent from ${from.value.trim()} to ${to.value.trim()}`);
        go({ view: "phones", number: from.value.trim(), message: null, row: null, q: "", state: "" });
      },
    },
  );
}

/** Asks before `run`. */
export function confirmFirst(title, text, action, run) {
  show(title, text, [], { action, danger: true, run });
}

/** Shows the keys that the page knows. */
export function showKeys() {
  const keys = [
    ["Ctrl + K", "to the search"],
    ["↓ ↑", "in the list: another phone; in a conversation: another message"],
    ["Enter", "in the list: to the conversation; on a message: its story"],
    ["Escape", "closes the story, then leads back to the list"],
    ["Enter, Shift + Enter", "in the answer: send, new line"],
  ];
  const close = h("button", { type: "button", class: "button", on: { click: () => dialog.close() } }, "Close");
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" });
  fill(
    dialog,
    h("h2", { id: "dialog-title" }, "Keys"),
    h(
      "dl",
      { class: "facts keys" },
      keys.map(([key, what]) => [h("dt", null, h("kbd", null, key)), h("dd", null, what)]),
    ),
    h("div", { class: "actions" }, close),
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("keydown", (event) => event.key === "Escape" && event.stopPropagation());
  document.body.append(dialog);
  dialog.showModal();
}
