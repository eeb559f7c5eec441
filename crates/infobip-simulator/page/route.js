// The address of what is shown, in the part after `#`: `#/phones/41793026727/MESSAGE?q=text&state=pending`, `#/account`,
// `#/controls`.
//
// Invariant: a reload shows the same, and Back leads to what was shown before.

const VIEWS = ["phones", "account", "controls"];

/** What the address names: the view, and for phones the number, the message with its row, the search and the filter. */
export function route() {
  const [path, query] = location.hash.replace(/^#\/?/u, "").split("?");
  const [view, number, message] = path.split("/").map(decode);
  const search = new URLSearchParams(query);
  return {
    view: VIEWS.includes(view) ? view : "phones",
    number: number || null,
    message: message || null,
    row: search.get("row"),
    q: search.get("q") ?? "",
    state: search.get("state") ?? "",
  };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a route. */
export function href({ view = "phones", number, message, row, q, state }) {
  const path = [view, number, message].filter(Boolean).map(encodeURIComponent).join("/");
  const search = new URLSearchParams();
  if (row !== null && row !== undefined) search.set("row", row);
  if (q) search.set("q", q);
  if (state) search.set("state", state);
  return `#/${path}${search.size > 0 ? `?${search}` : ""}`;
}

/** Goes to a route; `change` replaces parts of the present one. With `replace` Back does not return to the present one. */
export function go(change, replace = false) {
  const target = href({ ...route(), ...change });
  if (target === location.hash) return;
  if (replace) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  // The browser tells of this address only when it returns to it. Telling it now also saves a frame.
  dispatchEvent(new HashChangeEvent("hashchange"));
}
