// The menu of a testnet: what can be done to its nodes while one looks at them. An ordinary node has none, and the menu stays hidden.

import { get, post } from "./api.js";
import { h } from "./lists.js";
import { count } from "./words.js";

/** Others may give orders, too, by typing them: so often the testnet is asked who runs. */
const PERIOD_MS = 2000;
const OF_ONE = ["move", "away", "back", "kill"];
const OF_ALL = ["partition", "heal"];
const NETWORKS = { up: "", away: " (away)", moving: " (moving)" };

const $ = (id) => document.getElementById(id);
/** Undefined until the testnet has answered; null when there is none. */
let scene;
let due = 0;
let busy = false;
/** Orders given; what was asked before one is old when it comes after. */
let given = 0;

/** Wires the buttons. `ask(title, text, yes, act)` asks before a node dies; `own()` is the id of the node whose page this is. */
export function wire({ ask, own }) {
  for (const order of [...OF_ONE, ...OF_ALL]) {
    $(`order-${order}`).addEventListener("click", () => {
      const { name, node } = chosen() ?? {};
      if (order !== "kill" || !name) give(order);
      else if (node === own()) say(`${name} serves this page. Type kill ${name} where the testnet was started.`);
      else ask(`Kill ${name}?`, "Its process ends at once, as in a crash. It does not come back.", "Kill", () => give(order));
    });
  }
}

/** Asks who runs, if it is time. */
export async function look() {
  if (scene === null || busy || performance.now() < due) return;
  due = performance.now() + PERIOD_MS;
  const before = given;
  try {
    const next = await get("/api/scenario");
    if (given === before) show(next);
  } catch {
    // The feed says it when the node is gone; until then it is asked again.
  }
}

/** Chooses the node of this id, if it belongs to the testnet. */
export function pick(id) {
  const node = scene?.nodes.find((each) => each.node === id);
  if (node) $("testnet-node").value = node.name;
}

/** What the nodes are called in the testnet, so that the menu and the disk speak of the same ones; in the form of the node's own names. */
export const names = () => (scene?.nodes ?? []).map(({ name, node }) => ({ name, node, kind: "testnet" }));

const chosen = () => scene?.nodes.find(({ name }) => name === $("testnet-node").value);

async function give(order) {
  if (busy) return;
  busy = true;
  given += 1;
  say("Telling the nodes…");
  try {
    show(await post("/api/scenario", OF_ONE.includes(order) ? { order, node: $("testnet-node").value } : { order }));
  } catch (error) {
    say(error.message);
  } finally {
    busy = false;
  }
}

function show(next) {
  const moved = (scene?.nodes ?? []).filter(({ network }) => network === "moving").map(({ name }) => name);
  scene = next;
  $("testnet").hidden = !scene;
  if (!scene) return;
  $("testnet-count").textContent = count(scene.nodes.length, "process", "processes") + (scene.parted ? " in two halves" : "");
  // Options are kept while nobody comes or goes, so that an open list stays open.
  const select = $("testnet-node");
  const names = scene.nodes.map(({ name }) => name);
  if (names.join() !== [...select.options].map(({ value }) => value).join()) {
    const before = select.value;
    select.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    // The last one, which is not the one whose page this is.
    select.value = names.includes(before) ? before : names.at(-1);
  }
  scene.nodes.forEach(({ name, network }, i) => { select.options[i].textContent = name + NETWORKS[network]; });
  const back = scene.nodes.find(({ name, network }) => network === "up" && moved.includes(name));
  if (scene.said) say(scene.said);
  else if (back) say(`${back.name} is back, at another address`);
}

function say(text) { $("testnet-said").textContent = text; }
