// Writes times, amounts and words for states. All times are virtual: those of the simulator's clock, in the reader's time zone,
// with 24 hours, as the logs of programs have them.

const LOCALE = "en-GB";
const time = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat(LOCALE, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});
const seconds = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short" });
const dayOfYear = new Intl.DateTimeFormat(LOCALE, { weekday: "short", day: "numeric", month: "short", year: "numeric" });
const number = new Intl.NumberFormat("en");

/** The milliseconds of a time that the simulator wrote: a number, or `2015-02-12T09:51:43.123+0000`. */
export function milliseconds(value) {
  if (value === null || value === undefined) return NaN;
  if (typeof value === "number") return value;
  return Date.parse(value.replace(/([+-]\d\d)(\d\d)$/u, "$1:$2"));
}

const at = (format) => (value) => {
  const ms = milliseconds(value);
  return Number.isNaN(ms) ? "" : format.format(ms);
};

export const hourAndMinute = at(time);
export const withMilliseconds = at(exact);
export const withSeconds = at(seconds);
export const shortDay = at(day);
export const fullDay = at(dayOfYear);

/** `14:05` on the day of the clock, otherwise `3 Nov`. */
export function whenInList(value, nowMs) {
  return fullDay(value) === fullDay(nowMs) ? hourAndMinute(value) : shortDay(value);
}

/** Date and time with milliseconds. */
export function fully(value) {
  return Number.isNaN(milliseconds(value)) ? "" : `${fullDay(value)}, ${withMilliseconds(value)}`;
}

export function count(value) {
  return number.format(value ?? 0);
}

/** `1 message`, `2 messages`. */
export function plural(amount, noun) {
  return `${count(amount)} ${noun}${amount === 1 ? "" : "s"}`;
}

/** `350 ms`, `2.4 s`, `3 min`, `1 h 5 min`, `2 d`. */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${Number((ms / 1000).toFixed(1))} s`;
  const minutes = Math.round(ms / 60_000);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  return `${Number((minutes / 1440).toFixed(1))} d`;
}

export const STATES = ["scheduled", "pending", "delivered", "undeliverable", "expired", "rejected"];

const STATE_ICONS = {
  scheduled: "calendar",
  pending: "clock",
  delivered: "check",
  undeliverable: "cross",
  expired: "hourglass",
  rejected: "cross",
};

export function stateIcon(state) {
  return STATE_ICONS[state] ?? "clock";
}

/** JSON with indentation; any other text as it is. */
export function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** Octets in pairs: `41 42 43`. */
export function hexPairs(hex) {
  return hex.replace(/\s/gu, "").replace(/(..)(?=.)/gu, "$1 ");
}
