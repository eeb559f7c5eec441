// Tells what happened: to screen readers through the live region, to everyone in a short notice at the bottom.
//
// Invariant: at most one sentence a second is announced, so that a fast sender does not flood a reader.

const INTERVAL_MS = 1000;

let waiting = [];
let timer = 0;

/** Announces a sentence to screen readers. Several within a second become a count. */
export function announce(sentence) {
  waiting.push(sentence);
  if (timer) return;
  say();
  timer = setTimeout(next, INTERVAL_MS);
}

function next() {
  timer = 0;
  if (waiting.length > 0) {
    say();
    timer = setTimeout(next, INTERVAL_MS);
  }
}

function say() {
  const sentence = waiting.length === 1 ? waiting[0] : `${waiting.length} changes; the last: ${waiting.at(-1)}`;
  waiting = [];
  document.getElementById("announcements").textContent = sentence;
}

let hiding = 0;

/** Shows a sentence for a moment, and announces it. */
export function notify(sentence) {
  const toast = document.getElementById("toast");
  toast.textContent = sentence;
  toast.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => toast.classList.remove("shown"), 2600);
  announce(sentence);
}
