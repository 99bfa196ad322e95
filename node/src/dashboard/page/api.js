// The node's interface: docs/reference/dashboard.md.

const KEY = "muses-key";

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

/** Exchanges the token in a URL's fragment, or pasted, for a cookie and a key. */
export async function logIn(pasted) {
  const token = pasted.trim().split("#").pop();
  const { key } = await post("/api/login", { token });
  sessionStorage.setItem(KEY, key);
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const forgetKey = () => sessionStorage.removeItem(KEY);

async function ask(path, options = {}) {
  const headers = { ...options.headers, "x-muses-key": sessionStorage.getItem(KEY) ?? "" };
  const answer = await fetch(path, { ...options, headers, credentials: "same-origin", cache: "no-store" });
  if (answer.ok) return answer;
  const { message } = await answer.json().catch(() => ({ message: answer.statusText }));
  throw new Refused(answer.status, message);
}

export const get = async (path) => (await ask(path)).json();

export async function post(path, body) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  return (await ask(path, options)).json();
}

/** Cuts server-sent events out of pieces of text; `tell(event, data)` for each. */
export function eventParser(tell) {
  let rest = "";
  return (piece) => {
    rest += piece;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const fields = { event: "message", data: "" };
      for (const line of rest.slice(0, end).split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      rest = rest.slice(end + 2);
      tell(fields.event, JSON.parse(fields.data));
    }
  };
}

/** Follows the feed until it ends. Not an EventSource: that sends no header of ours. */
export async function follow(tell) {
  const answer = await ask("/api/feed");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const parse = eventParser(tell);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    parse(value);
  }
}
