// Wires the page: what the feed tells goes to the pictures and lists, what people press goes to the node.

import { Refused, follow, forgetKey, get, hasKey, logIn, post } from "./api.js";
import * as chart from "./chart.js";
import { Disk } from "./disk.js";
import * as lists from "./lists.js";
import * as scenario from "./scenario.js";
import { caller, count, rate, short } from "./words.js";

const RETRY_MS = 1500;
/** A chosen session's path is asked for again after this, and at once when something happens to it. */
const PATH_PERIOD_MS = 3000;
const MAX_SAMPLES = 300;
const MAX_FACTS = 200;
const CENTRES = ["all", "me", "root"];

const $ = (id) => document.getElementById(id);
const page = { state: null, placed: null, samples: [], facts: [], rates: new Map(), tree: 0, centre: "all", chosen: null, path: null, pathDue: 0, pathBusy: false, asked: null, names: "" };
let call = short;
const disk = new Disk($("disk"), { call: (id) => call(id), choose: (id) => bring(id) });

// ---- what is told ----

function tell(event, data) {
  if (event === "history") {
    page.samples = data.samples;
    page.facts = data.facts;
  } else if (event === "sample") {
    page.samples = [...page.samples, data].slice(-MAX_SAMPLES);
  } else if (event === "fact") {
    page.facts = [...page.facts, data].slice(-MAX_FACTS);
    if (data.kind !== "name") page.pathDue = 0;
  } else if (event === "state") {
    page.rates = ratesBetween(page.state, data, page.rates);
    page.state = data;
    if (isPlaced(data)) page.placed = data;
    const known = [...data.names, ...scenario.names()];
    call = caller(known);
    const names = JSON.stringify(known);
    if (names !== page.names) {
      page.names = names;
      renderHistory();
    }
    choosePath();
    scenario.look();
  }
  if (event !== "state") renderHistory();
  if (page.state && event !== "sample") render();
}

/** Bytes per second of each session, smoothed: states come twice a second. */
function ratesBetween(before, after, old) {
  const seconds = before ? (after.at_unix_ms - before.at_unix_ms) / 1000 : 0;
  const rates = new Map();
  for (const session of after.sessions) {
    const then = before?.sessions.find((other) => other.peer === session.peer);
    if (!then || seconds <= 0) continue;
    const last = old.get(session.peer) ?? { sent: 0, received: 0 };
    const smooth = (key) => 0.5 * last[key] + 0.5 * Math.max(0, session[`${key}_bytes`] - then[`${key}_bytes`]) / seconds;
    rates.set(session.peer, { sent: smooth("sent"), received: smooth("received") });
  }
  return rates;
}

/** Whose path is shown: as chosen, or that of the session that carries most. */
function choosePath() {
  const { sessions } = page.state;
  if (page.chosen === "" || sessions.some((session) => session.peer === page.chosen)) return;
  const carried = (session) => session.sent_bytes + session.received_bytes;
  page.chosen = [...sessions].sort((a, b) => carried(b) - carried(a))[0]?.peer ?? null;
  page.path = null;
  page.pathDue = 0;
}

async function askPath() {
  const peer = page.chosen;
  const session = page.state?.sessions.find((each) => each.peer === peer);
  if (!session || session.state !== "established" || page.pathBusy || performance.now() < page.pathDue) return;
  page.pathBusy = true;
  page.pathDue = performance.now() + PATH_PERIOD_MS;
  try {
    const hops = await get(`/api/path?peer=${peer}`);
    if (page.chosen === peer) page.path = { peer, hops };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    // No answer now: what was known stays, and it is asked again.
  } finally {
    page.pathBusy = false;
    render();
  }
}

// ---- what is shown ----

function render() {
  const { state } = page;
  if (!state) return;
  const { status } = state;
  $("name").textContent = status.name ?? "MUSeS node";
  $("identity").textContent = status.node;
  document.title = `${status.name ?? short(status.node)} · MUSeS`;
  const standing = !state.network_up ? ["bad", "flight mode"] : !isPlaced(state) ? ["warn", "looking for a way in"] : ["good", "in the overlay"];
  $("standing").className = `pill ${standing[0]}`;
  if ($("standing").textContent !== standing[1]) $("standing").textContent = standing[1];
  $("flight").setAttribute("aria-checked", String(!state.network_up));
  $("flight").disabled = false;
  $("overlay-facts").textContent = [count(Math.max(state.size, knownNodes(state)), "node"), count(status.links, "link"), isPlaced(state) ? state.addresses[page.tree] ? `here at ${state.addresses[page.tree]}` : "no address in this tree now" : page.placed ? "as it was before the outage" : null].filter(Boolean).join(" · ");
  $("sessions-count").textContent = count(status.sessions, "session");
  $("neighbours-count").textContent = String(state.neighbours.length);
  renderTrees();
  const path = shownPath();
  const centre = page.centre === "me" ? status.node : page.centre;
  // While this node has no place, what it knew last is shown, as such.
  const away = !isPlaced(state) && page.placed !== null;
  disk.show(away ? page.placed : state, { tree: page.tree, path, centre, away });
  $("disk-text").textContent = describe(path);
  for (const name of CENTRES) $(`centre-${name}`).setAttribute("aria-pressed", String(page.centre === name));
  lists.nodes($("nodes"), away ? page.placed : state, page.tree, path?.hops ?? [], { call, away, centre, choose: bring });
  lists.neighbours($("neighbours"), state, page.tree, call);
  lists.sessions($("sessions"), state, { call, rates: page.rates, chosen: page.chosen, choose, cut });
  lists.figures($("figures"), state);
  lists.names($("names"), state);
  renderPath(path);
}

/** Whether it is found, in whatever tree: one of them may be repaired just now. */
const isPlaced = (state) => state.addresses.some((address) => address !== null);

/** The size comes up the trees, a while after nodes do. */
const knownNodes = (state) => new Set([state.status.node, ...[...state.neighbours, ...state.known].map(({ node }) => node)]).size;

function shownPath() {
  const session = page.state.sessions.find((each) => each.peer === page.chosen);
  if (!session || page.path?.peer !== session.peer) return null;
  const rates = page.rates.get(session.peer);
  return { ...page.path, waiting: session.state !== "established", flowing: (rates?.sent ?? 0) + (rates?.received ?? 0) > 1000 };
}

function renderPath(path) {
  const chosen = page.state.sessions.some((session) => session.peer === page.chosen) ? page.chosen : null;
  $("path").hidden = !chosen;
  if (!chosen) return;
  $("path-peer").textContent = call(chosen);
  const stops = path ? [page.state.status.node, ...path.hops.map((hop) => hop.node)] : [];
  $("path-hops").replaceChildren(...stops.map((id) => lists.h("li", { title: id }, call(id))));
  $("path-text").textContent = !path ? "Asking the relays on the way…" : path.waiting ? "This was the way; the session waits for another one. Nothing is lost."
    : `${count(path.hops.length, "link")}, as the relays answered just now.`;
}

function describe(path) {
  const { state } = page;
  const words = [`${count(state.neighbours.length, "neighbour")} and ${count(state.known.length, "other node")} around ${call(state.status.node)}.`];
  if (path) words.push(`The path to ${call(path.peer)} goes over ${path.hops.map((hop) => call(hop.node)).join(", ")}${path.waiting ? ", and is interrupted" : ""}.`);
  return words.join(" ");
}

function renderTrees() {
  const wanted = page.state.trees.map(({ tree }) => String(tree)).join();
  if ($("trees").dataset.shown !== wanted) {
    $("trees").dataset.shown = wanted;
    const choice = ({ tree }) => lists.h("button", { type: "button", "data-tree": tree, "aria-label": `Tree ${tree + 1}`, click: () => { page.tree = tree; render(); } }, `Tree ${tree + 1}`);
    $("trees").replaceChildren(...page.state.trees.map(choice));
  }
  for (const button of $("trees").children) button.setAttribute("aria-pressed", String(Number(button.dataset.tree) === page.tree));
}

function renderHistory() {
  const last = page.samples.at(-1);
  $("rate-received").textContent = `${rate(last?.received_bytes_per_s ?? 0)} received`;
  $("rate-sent").textContent = `${rate(last?.sent_bytes_per_s ?? 0)} sent`;
  chart.draw($("chart"), $("chart-axis"), $("chart-text"), page.samples, page.facts);
  lists.samples($("samples"), page.samples);
  const newest = `${page.facts.length} ${page.facts.at(-1)?.at_unix_ms} ${page.names}`;
  if ($("events").dataset.shown !== newest) {
    $("events").dataset.shown = newest;
    lists.events($("events"), page.facts, call);
  }
}

// ---- what people do ----

/** A node to the middle of the disk. */
function bring(id) {
  page.centre = id;
  scenario.pick(id);
  render();
}

function choose(peer) {
  page.chosen = page.chosen === peer ? "" : peer;
  page.path = null;
  page.pathDue = 0;
  render();
  askPath();
}

async function act(path, body) {
  try {
    await post(path, body);
    notice(null);
  } catch (error) {
    notice(error.message);
  }
}

function cut(peer) {
  const text = `The session with ${call(peer)} ends at once, with every connection in it. Applications see a reset.`;
  ask("Cut this session?", text, "Cut", () => act("/api/cut", { peer }));
}

/** Asks before what cannot be taken back. */
function ask(title, text, yes, act) {
  page.asked = act;
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = yes;
  $("confirm").showModal();
}
// Not the dialog's close event: that comes later, perhaps when the dialog is open again, and would be taken for the new answer.
$("confirm-yes").addEventListener("click", () => page.asked());
scenario.wire({ ask, own: () => page.state?.status.node });

function notice(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text ?? "";
}

$("flight").addEventListener("click", async () => {
  $("flight").disabled = true;
  await act("/api/network", { up: !page.state.network_up });
  $("flight").disabled = false;
});
for (const name of CENTRES) $(`centre-${name}`).addEventListener("click", () => { page.centre = name; render(); });

const THEMES = ["auto", "light", "dark"];
function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem("muses-theme", theme);
}
setTheme(THEMES.includes(localStorage.getItem("muses-theme")) ? localStorage.getItem("muses-theme") : "auto");
$("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(localStorage.getItem("muses-theme")) + 1) % THEMES.length]));

// ---- getting in, and staying in ----

function showDoor(open) {
  $("door").hidden = !open;
  $("board").hidden = open;
}

async function stay() {
  for (;;) {
    try {
      showDoor(false);
      let begun = false;
      await follow((event, data) => {
        if (!begun) notice(null);
        begun = true;
        tell(event, data);
      });
      notice("The node has ended or was restarted; trying again…");
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        forgetKey();
        showDoor(true);
        return;
      }
      notice(error instanceof Refused ? error.message : "The node does not answer; trying again…");
    }
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
}

async function enter(pasted) {
  try {
    await logIn(pasted);
    notice(null);
    stay();
  } catch (error) {
    showDoor(true);
    notice(error.message);
  }
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("token").value);
  $("token").value = "";
});
setInterval(askPath, 400);
addEventListener("hashchange", () => location.reload());

function begin() {
  const token = location.hash.slice(1);
  // The token is not kept in the history of the browser.
  if (token) history.replaceState(null, "", "/");
  if (token) enter(token);
  else if (hasKey()) stay();
  else showDoor(true);
}
begin();
