// Requests to the simulator: its control interface `/_sim/`, and one send of the simulated API.
//
// Invariants: every address is relative to the page's own; every request has a deadline; a refusal becomes a `Refused` whose
// message can be shown.

const TIMEOUT_MS = 20_000;
// An advance of the clock answers when all pushes that became due were answered.
const ADVANCE_TIMEOUT_MS = 120_000;

/** The simulator refused a request, or did not answer. */
export class Refused extends Error {
  constructor(message, status, fields) {
    super(message);
    this.status = status;
    this.fields = fields;
  }
}

async function request(method, path, { query, body, headers, timeout } = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const options = {
    method,
    headers: { Accept: "application/json", ...headers },
    signal: AbortSignal.timeout(timeout ?? TIMEOUT_MS),
  };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  let text;
  try {
    response = await fetch(url, options);
    text = await response.text();
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Refused(
      late ? `The simulator did not answer ${path} in time.` : "The simulator does not answer. Is it running?",
      null,
      [],
    );
  }
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // An answer that is not JSON comes from a fault or from a proxy.
  }
  if (!response.ok || value === null) throw refusal(response.status, value, path);
  return value;
}

function refusal(status, value, path) {
  const exception = value?.requestError?.serviceException;
  const reasons = Object.entries(exception?.validationErrors ?? {});
  const why = reasons.map(([field, texts]) => `${field} ${[texts].flat().join(", ")}`).join("; ");
  const text = exception?.text ?? `${path} was answered with status ${status}`;
  return new Refused(
    why ? `${text}: ${why}` : text,
    status,
    reasons.map(([field]) => field),
  );
}

const sim = (path) => `/_sim/${path}`;

export const phones = (query) => request("GET", sim("phones"), { query });
export const phone = (number, query) => request("GET", sim(`phones/${encodeURIComponent(number)}`), { query });
export const message = (id, row) => request("GET", sim(`messages/${encodeURIComponent(id)}`), { query: { row } });
export const account = () => request("GET", sim("account"));
export const requests = (query) => request("GET", sim("requests"), { query });
export const requestOf = (seq) => request("GET", sim(`requests/${seq}`));
export const pushes = (query) => request("GET", sim("pushes"), { query });
export const outcomes = () => request("GET", sim("outcomes"));
export const faultKinds = () => request("GET", sim("faults/kinds"));
export const faults = () => request("GET", sim("faults"));
export const addFault = (fault) => request("POST", sim("faults"), { body: fault });
export const removeFaults = (id) => request("DELETE", sim("faults"), { query: { id } });
export const keywords = () => request("GET", sim("keywords"));
export const addKeyword = (keyword) => request("POST", sim("keywords"), { body: keyword });
export const clock = () => request("GET", sim("clock"));
export const setClock = (change) => request("POST", sim("clock"), { body: change, timeout: ADVANCE_TIMEOUT_MS });
export const receive = (inbound) => request("POST", sim("inbound"), { body: inbound });
export const reset = () => request("POST", sim("reset"));

/** Sends a text through the simulated API, as a client of the account does. */
export function sendText(basic, message) {
  return request("POST", "/sms/1/text/single", { body: message, headers: { Authorization: basic } });
}
