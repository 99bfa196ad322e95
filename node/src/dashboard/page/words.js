// Numbers and ids as people read them. Pure.

export const ID = /12D3KooW[1-9A-HJ-NP-Za-km-z]{44}/g;

/** Bytes with a unit of 1000, three digits. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = count, unit = 0;
  while (value >= 999.5 && unit < units.length - 1) { value /= 1000; unit += 1; }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

export const rate = (perSecond) => `${bytes(perSecond)}/s`;

/** Microseconds. */
export function duration(us) {
  if (us === null || us === undefined) return "–";
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

/** Seconds as the two greatest units. */
export function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const from = parts.findIndex(([size]) => seconds >= size);
  if (from < 0) return "0 s";
  let left = Math.floor(seconds);
  const words = [];
  for (const [size, unit] of parts.slice(from, from + 2)) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) words.push(`${count} ${unit}`);
  }
  return words.join(" ");
}

export const clock = (unixMs) => new Date(unixMs).toLocaleTimeString([], { hour12: false });

/** An id's end: their beginnings are all alike. */
export const short = (id) => `…${id.slice(-6)}`;

/** What a node is called: by name where one is known. */
export function caller(names) {
  const rank = { own: 0, petname: 1, pin: 2, testnet: 3 };
  const best = new Map();
  for (const { name, node, kind } of [...names].sort((a, b) => rank[a.kind] - rank[b.kind])) {
    if (!best.has(node)) best.set(node, name);
  }
  return (id) => best.get(id) ?? short(id);
}

/** A line with its ids replaced by what the nodes are called. */
export const readable = (line, call) => line.replace(ID, (id) => call(id));

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
