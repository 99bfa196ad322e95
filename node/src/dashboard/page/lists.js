// Tables and lists. Texts come from other nodes, too, so they are only ever set as text.

import { bytes, clock, count, duration, rate, readable, short, span } from "./words.js";
import { nodesOf } from "./disk.js";
import { averages } from "./chart.js";

/** An element with attributes and children; functions become listeners. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const empty = (columns, text) => h("tr", {}, h("td", { class: "empty", colspan: columns }, text));
const named = (id, call) => h("span", { title: id, ...(call(id) === short(id) ? { class: "mono" } : {}) }, call(id));

const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };

/** Puts these rows into the list, where others are there: who presses a button or tabs through them is not disturbed by the next state. */
function show(list, wanted) {
  if (wanted.length === list.children.length && wanted.every((row, i) => list.children[i] === row)) return;
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  list.replaceChildren(...wanted);
  if (focused?.isConnected) focused.focus({ preventScroll: true });
}

/** `centre` is the node in the middle of the disk, if one is; its button gets it there. */
export function nodes(body, state, tree, hops, { call, away, centre, choose }) {
  const what = away ? { me: "this node, before the outage", neighbour: "was a neighbour", known: "was known" } : { me: "this node", neighbour: "neighbour", known: "known" };
  const kept = new Map([...body.children].map((row) => [row.dataset.node, row]));
  const rows = [...nodesOf(state, tree, hops).values()].map((node) => {
    const row = kept.get(node.id) ?? nodeRow(node.id, choose);
    const [name, role, address, via] = row.children;
    name.firstChild.setAttribute("aria-pressed", String(node.id === centre));
    set(name.firstChild, call(node.id));
    name.firstChild.classList.toggle("mono", call(node.id) === short(node.id));
    set(role, what[node.kind] + (node.address === "/" ? ", root" : ""));
    set(address, node.address);
    set(via, node.kind === "me" ? "–" : node.kind === "neighbour" ? (away ? "–" : "a link") : node.via.slice(0, 3).map(call).join(", ") || "–");
    return row;
  });
  const none = kept.get("") ?? h("tr", { "data-node": "" }, h("td", { class: "empty", colspan: 4 }, "This node has no place in the overlay now."));
  show(body, rows.length ? rows : [none]);
}

function nodeRow(id, choose) {
  const button = h("button", { type: "button", class: "plain", title: id, "data-node": id, click: () => choose(id) });
  return h("tr", { "data-node": id }, h("td", {}, button), h("td", {}), h("td", { class: "mono" }), h("td", {}));
}

export function neighbours(body, state, tree, call) {
  const rows = state.neighbours.map((peer) => h("tr", {},
    h("td", {}, named(peer.node, call)),
    h("td", {}, peer.roles[tree]),
    h("td", { class: "mono" }, peer.remote.split("/p2p/")[0]),
    h("td", { class: "number" }, duration(peer.rtt_us)),
    h("td", { class: "number" }, span(peer.up_s))));
  body.replaceChildren(...(rows.length ? rows : [empty(5, state.network_up ? "No neighbour yet." : "None in flight mode.")]));
}

export function samples(body, list) {
  const rows = averages(list, 10).slice(0, 30).map((row) => h("tr", {},
    h("td", {}, clock(row.at)), h("td", { class: "number" }, rate(row.received)), h("td", { class: "number" }, rate(row.sent))));
  body.replaceChildren(...rows);
}

const STATES = { established: ["good", "established"], suspended: ["warn", "waiting for a way"], handshake: ["warn", "shaking hands"] };

/** Rows are kept from one state to the next, so that focus stays where it is. */
export function sessions(list, state, { call, rates, chosen, choose, cut }) {
  const kept = new Map([...list.children].map((row) => [row.dataset.peer, row]));
  const rows = state.sessions.map((session) => {
    const row = kept.get(session.peer) ?? sessionRow(session.peer, choose, cut);
    fillSession(row, session, call, rates.get(session.peer), chosen);
    return row;
  });
  const none = kept.get("") ?? h("li", { class: "empty", "data-peer": "" }, "No session. One begins with the first connection: muses connect NAME/SERVICE --listen HOST:PORT");
  show(list, rows.length ? rows : [none]);
}

function sessionRow(peer, choose, cut) {
  return h("li", { class: "session", "data-peer": peer },
    h("div", { class: "who" }, h("span", { class: "name", title: peer }), h("span", { class: "pill" })),
    h("div", { class: "buttons" },
      h("button", { type: "button", class: "show", click: () => choose(peer) }, "Path"),
      h("button", { type: "button", class: "cut danger", click: () => cut(peer) }, "Cut")),
    h("p", { class: "facts" }),
    h("ul", { class: "streams" }));
}

function fillSession(row, session, call, rates, chosen) {
  const part = (name) => row.querySelector(`.${name}`);
  const [tone, words] = STATES[session.state] ?? ["warn", session.state];
  set(part("name"), call(session.peer));
  set(part("pill"), words);
  part("pill").className = `pill ${tone}`;
  part("show").setAttribute("aria-pressed", String(session.peer === chosen));
  part("show").setAttribute("aria-label", `Path to ${call(session.peer)}`);
  part("cut").setAttribute("aria-label", `Cut the session with ${call(session.peer)}`);
  const facts = [
    session.hops === null ? null : session.hops === 1 ? "direct" : count(session.hops, "link"),
    `round trip ${duration(session.rtt_us)}`,
    count(session.resumes, "resume"),
    rates ? `↓ ${rate(rates.received)}  ↑ ${rate(rates.sent)}` : null,
  ];
  part("facts").replaceChildren(...facts.filter(Boolean).map((fact) => h("span", {}, fact)));
  part("streams").replaceChildren(...session.streams.map((stream) => h("li", {},
    h("span", { class: "service" }, stream.offered_by === "here" ? `${stream.service} of this node` : `${stream.service} of the peer`),
    h("span", { class: "quiet" }, `${bytes(stream.received_bytes)} received, ${bytes(stream.sent_bytes)} sent`))));
}

export function events(list, facts, call) {
  const rows = [...facts].reverse().map((fact) => h("li", {},
    h("time", { datetime: new Date(fact.at_unix_ms).toISOString() }, clock(fact.at_unix_ms)), h("span", {}, readable(fact.text, call))));
  list.replaceChildren(...(rows.length ? rows : [h("li", { class: "empty" }, "Nothing happened since this page's server began.")]));
}

export function figures(list, state) {
  const { counters, services } = state.status;
  const all = [
    ["records held for others", state.records.held],
    ["record requests answered", state.records.answered],
    ["packets forwarded", counters.forwarded],
    ["packets dropped", counters.dropped],
    ["sessions resumed", counters.resumes],
    ["public-key operations", counters.public_key_ops],
    ["received", bytes(counters.received_bytes)],
    ["sent", bytes(counters.sent_bytes)],
    ["services offered", services.length ? services.join(", ") : "none"],
  ];
  list.replaceChildren(...all.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
}

export function names(list, state) {
  const why = { own: "this node", petname: "petname", pin: "pinned" };
  const own = new Set(state.names.filter(({ kind }) => kind === "own").map(({ name }) => name));
  const rows = state.names.filter(({ kind, name }) => kind === "own" || !own.has(name)).map(({ name, node, kind }) => h("li", { title: node }, `${name} `, h("span", { class: "quiet" }, `${why[kind]} ${short(node)}`)));
  list.replaceChildren(...(rows.length ? rows : [h("li", {}, "none yet")]));
}
