// Follows the simulator's server-sent events (`/_sim/stream`), and keeps what they carry: the clock, the counts, the connection.
//
// Invariants: a lost or silent connection is opened again until it works; whoever listens is told to load everything when it is
// open, because of what happened before, and of each reset once; a tab that nobody sees holds no connection, because a browser
// opens only six to one server.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const HIDDEN_MS = 10_000;
const HELLO_MS = 10_000;
// The simulator is silent for 15 s at most.
const SILENT_MS = 40_000;

const listeners = new Set();
let source = null;
let wait = FIRST_WAIT_MS;
let seen = null;
let clockAt = { nowMs: Date.now(), speed: 1, frozen: true, read: performance.now() };

let retry = 0;
let hiding = 0;
let silence = 0;

/** What is known without asking: the counts, and the connection (`connecting`, `live`, `lost`, `refused`: only the stream is). */
export const live = { connection: "connecting", counts: null };

/**
 * Calls `listener(kind, data)`: `change` with the data of the event; `reload` if anything may have changed; `reset` if everything
 * was deleted; `connection` and `clock`. Returns a function that ends it.
 */
export function follow(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(kind, data) {
  for (const listener of [...listeners]) listener(kind, data);
}

/** The virtual time now, in milliseconds: the simulator's last word, continued at its speed. */
export function nowMs() {
  return clockAt.frozen ? clockAt.nowMs : clockAt.nowMs + (performance.now() - clockAt.read) * clockAt.speed;
}

export function clockState() {
  return { speed: clockAt.speed, frozen: clockAt.frozen };
}

/** Takes over a clock that an answer or an event carried. */
export function setClockState({ nowMs: now, speed, frozen }) {
  clockAt = { nowMs: now, speed, frozen, read: performance.now() };
  tell("clock");
}

function setConnection(state) {
  if (live.connection === state) return;
  live.connection = state;
  tell("connection", state);
}

/** Opens the stream, now. */
export function connect() {
  clearTimeout(retry);
  source?.close();
  expectWithin(HELLO_MS);
  source = new EventSource("/_sim/stream");
  source.addEventListener("hello", (event) => hello(JSON.parse(event.data)));
  source.addEventListener("change", (event) => change(JSON.parse(event.data)));
  source.addEventListener("reload", reload);
  source.addEventListener("heartbeat", () => expectWithin(SILENT_MS));
  source.addEventListener("bye", again);
  source.addEventListener("error", again);
}

// A connection that broke without a word looks like one on which nothing happens.
function expectWithin(ms) {
  clearTimeout(silence);
  silence = setTimeout(again, ms);
}

function hello({ instance, generation, clock, counts }) {
  expectWithin(SILENT_MS);
  wait = FIRST_WAIT_MS;
  live.counts = counts;
  const known = seen;
  seen = { instance, generation };
  setClockState(clock);
  setConnection("live");
  if (known && (known.instance !== instance || known.generation !== generation)) tell("reset");
  // Also the first time: what was loaded before may have changed until now.
  else tell("reload");
}

function change(data) {
  expectWithin(SILENT_MS);
  live.counts = data.counts;
  const reset = data.generation !== seen.generation;
  seen.generation = data.generation;
  setClockState(data.clock);
  tell(reset ? "reset" : "change", data);
}

function reload() {
  expectWithin(SILENT_MS);
  tell("reload");
}

async function again() {
  source.close();
  clearTimeout(silence);
  clearTimeout(retry);
  retry = setTimeout(connect, wait);
  wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  // The stream has a limit of listeners; the other answers have none.
  const answers = await fetch("/_sim/clock", { signal: AbortSignal.timeout(FIRST_WAIT_MS) }).then(
    (response) => response.ok,
    () => false,
  );
  if (source.readyState === EventSource.CLOSED) setConnection(answers ? "refused" : "lost");
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = setTimeout(() => {
      clearTimeout(retry);
      clearTimeout(silence);
      source?.close();
    }, HIDDEN_MS);
  } else if (!source || source.readyState === EventSource.CLOSED) {
    connect();
  }
});

/** A function that runs `task` at most once in `interval` milliseconds, and once more after the last call. */
export function atMost(interval, task) {
  let timer = 0;
  let last = -Infinity;
  let running = false;
  let asked = false;
  const run = async () => {
    timer = 0;
    running = true;
    asked = false;
    try {
      await task();
    } finally {
      running = false;
      last = performance.now();
      if (asked) call();
    }
  };
  const call = () => {
    asked = true;
    if (timer || running) return;
    timer = setTimeout(run, Math.max(0, last + interval - performance.now()));
  };
  return call;
}
