// Throughput of the last five minutes.

import { ID, clock, rate } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const WINDOW_MS = 300_000;
const WIDTH = 600;
const HEIGHT = 200;
/** Below so many bytes per second the scale does not shrink. */
const MIN_TOP = 1000;

/** The least of these times a power of ten that is not below `value`; half of it is round, too. */
export function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, MIN_TOP)));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((top) => top >= value) ?? 10 * power;
}

/** Averages of stretches of `seconds`, the newest first. */
export function averages(samples, seconds) {
  const rows = new Map();
  for (const sample of samples) {
    const at = Math.floor(sample.at_unix_ms / 1000 / seconds) * seconds * 1000;
    const row = rows.get(at) ?? { at, n: 0, received: 0, sent: 0 };
    row.n += 1;
    row.received += sample.received_bytes_per_s;
    row.sent += sample.sent_bytes_per_s;
    rows.set(at, row);
  }
  const mean = ({ at, n, received, sent }) => ({ at, received: received / n, sent: sent / n });
  return [...rows.values()].map(mean).sort((a, b) => b.at - a.at);
}

/** When a session was suspended: [from, to] in Unix milliseconds; the last one may go on until `now`. */
export function outages(facts, now) {
  const spans = [];
  const open = new Map();
  for (const { kind, text, at_unix_ms: at } of facts) {
    if (kind !== "session") continue;
    const [peer] = text.match(ID) ?? [];
    if (text.includes("suspended")) {
      if (!open.has(peer)) open.set(peer, at);
    } else if (open.has(peer)) {
      spans.push([open.get(peer), at]);
      open.delete(peer);
    }
  }
  return [...spans, ...[...open.values()].map((from) => [from, now])];
}

function make(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
}

export function draw(svg, axis, text, samples, facts) {
  const now = samples.at(-1)?.at_unix_ms ?? Date.now();
  const shown = samples.filter((sample) => sample.at_unix_ms > now - WINDOW_MS);
  const most = Math.max(0, ...shown.flatMap((sample) => [sample.received_bytes_per_s, sample.sent_bytes_per_s]));
  const top = niceTop(most);
  const x = (at) => Math.max(0, Math.min(WIDTH, ((at - now) / WINDOW_MS + 1) * WIDTH));
  const y = (value) => HEIGHT - (value / top) * HEIGHT;
  for (const old of [...svg.children].filter((child) => !["title", "desc"].includes(child.tagName))) old.remove();
  for (const [from, to] of outages(facts, now)) {
    const width = x(to) - x(from);
    if (width > 0) make("rect", { class: "outage", x: x(from), y: 0, width: Math.max(width, 1.5), height: HEIGHT }, svg);
  }
  for (const part of [0, 0.5, 1]) make("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(top * part), y2: y(top * part) }, svg);
  const line = (key) => shown.map((sample, i) => `${i === 0 ? "M" : "L"}${x(sample.at_unix_ms).toFixed(1)} ${y(sample[key]).toFixed(1)}`).join("");
  if (shown.length > 1) {
    const area = `${line("received_bytes_per_s")}L${x(now)} ${HEIGHT}L${x(shown[0].at_unix_ms).toFixed(1)} ${HEIGHT}Z`;
    make("path", { class: "area", d: area }, svg);
    make("path", { class: "line received", d: line("received_bytes_per_s") }, svg);
    make("path", { class: "line sent", d: line("sent_bytes_per_s") }, svg);
  }
  const label = (kind, style, content) => {
    const span = document.createElement("span");
    span.className = kind;
    Object.assign(span.style, style);
    span.textContent = content;
    return span;
  };
  axis.replaceChildren(
    label("y", { top: "0" }, rate(top)),
    label("y", { top: "50%" }, rate(top / 2)),
    label("x first", { left: "0" }, clock(now - WINDOW_MS)),
    label("x", { left: "50%" }, clock(now - WINDOW_MS / 2)),
    label("x last", { left: "100%" }, clock(now)),
  );
  const last = shown.at(-1);
  text.textContent = last
    ? `Received ${rate(last.received_bytes_per_s)} and sent ${rate(last.sent_bytes_per_s)} now; at most ${rate(most)} in the last five minutes.`
    : "Nothing is measured yet.";
}
