// Draws the overlay: vertices, trees, links, a session's path. Positions glide from one state to the next.

import { apply, between, centred, geodesic, layout, length, middleOf, parentOf, word } from "./geometry.js";

const SVG = "http://www.w3.org/2000/svg";
const GLIDE_MS = 450;
/** Width of a letter beside the size of the type, about. */
const LETTER = 0.56;
/** Where a line is looked at to keep names off it. */
const LINE_PARTS = Array.from({ length: 23 }, (_, i) => (i + 1) / 24);

function make(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

/** All nodes with an address in `tree`: id to { id, address, kind, via }. The path's hops tell of more, in the first tree. */
export function nodesOf(state, tree, hops = []) {
  const nodes = new Map();
  const put = (id, address, kind, via = []) => { if (word(address) && !nodes.has(id)) nodes.set(id, { id, address, kind, via }); };
  put(state.status.node, state.addresses[tree], "me");
  for (const { node, addresses } of state.neighbours) put(node, addresses[tree], "neighbour");
  for (const { node, addresses, via } of state.known) put(node, addresses[tree], "known", via);
  if (tree === 0) for (const { node, address } of hops) put(node, address, "known");
  return nodes;
}

export class Disk {
  constructor(svg, { call, choose }) {
    this.svg = svg;
    this.call = call;
    this.choose = choose;
    this.shown = new Map();
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    make("circle", { class: "rim", r: 1 }, svg);
    for (const r of [0.34, 0.62, 0.82, 0.93]) make("circle", { class: "ring", r }, svg);
    this.layers = Object.fromEntries(["trees", "links", "paths", "dots", "texts"].map((name) => [name, make("g", {}, svg)]));
  }

  /** Shows `state`; `path` is null or { hops, waiting, flowing }. `centre` is a node's id, "root", or "all" for the middle of all nodes; `away` when this node has lost its place. */
  show(state, { tree, path, centre, away }) {
    this.svg.classList.toggle("away", away);
    const nodes = nodesOf(state, tree, path?.hops);
    const points = layout([...nodes.values()].map((node) => node.address));
    const places = [...nodes.values()].map((node) => points.get(node.address));
    const middle = nodes.has(centre) ? points.get(nodes.get(centre).address) : centre === "root" ? [0, 0] : middleOf(places);
    const view = centred(middle);
    const targets = new Map([...points].map(([address, point]) => [address, apply(view, point)]));
    this.scene = { state, nodes, path };
    const quick = this.still.matches || document.hidden || this.shown.size === 0;
    // A vertex that was not there begins where its parent was, so that what is new grows out of what is known.
    const before = (address) => {
      for (let at = address; at !== null; at = parentOf(at)) if (this.shown.has(at)) return this.shown.get(at);
      return [0, 0];
    };
    const from = new Map([...targets].map(([address, target]) => [address, quick ? target : before(address)]));
    const moved = [...targets].some(([address, target]) => Math.hypot(target[0] - from.get(address)[0], target[1] - from.get(address)[1]) > 1e-4);
    cancelAnimationFrame(this.frame);
    if (!moved) return this.draw(targets);
    const begun = performance.now();
    const step = (now) => {
      const part = Math.min(1, Math.max(0, (now - begun) / GLIDE_MS));
      const eased = 1 - (1 - part) ** 3;
      this.draw(new Map([...targets].map(([address, target]) => {
        const start = from.get(address);
        return [address, [start[0] + (target[0] - start[0]) * eased, start[1] + (target[1] - start[1]) * eased]];
      })));
      if (part < 1) this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }

  draw(points) {
    this.shown = points;
    const { state, nodes, path } = this.scene;
    const { trees, links, paths, dots, texts } = this.layers;
    for (const layer of Object.values(this.layers)) layer.replaceChildren();
    const at = (id) => nodes.has(id) ? points.get(nodes.get(id).address) : undefined;
    for (const [address, point] of points) {
      const parent = parentOf(address);
      if (parent !== null) make("path", { class: "tree", d: geodesic(points.get(parent), point) }, trees);
    }
    const me = at(state.status.node);
    const lines = [];
    for (const { node } of state.neighbours) {
      if (!me || !at(node)) continue;
      make("path", { class: "link", d: geodesic(me, at(node)) }, links);
      lines.push([me, at(node)]);
    }
    const onPath = new Set(path ? [state.status.node, ...path.hops.map((hop) => hop.node)] : []);
    if (path) {
      const stops = [...onPath].map(at).filter(Boolean);
      const style = path.waiting ? "path waiting" : path.flowing ? "path flowing" : "path";
      for (let i = 1; i < stops.length; i++) {
        make("path", { class: style, d: geodesic(stops[i - 1], stops[i]) }, paths);
        lines.push([stops[i - 1], stops[i]]);
      }
    }
    const held = new Set([...nodes.values()].map((node) => node.address));
    for (const [address, point] of points) {
      if (!held.has(address)) make("circle", { class: "vertex", cx: point[0], cy: point[1], r: 0.007 }, dots);
    }
    if (me) make("circle", { class: "halo", cx: me[0], cy: me[1], r: 0.062 }, dots);
    for (const node of nodes.values()) {
      const point = points.get(node.address);
      // What is nearer the rim is drawn smaller, as the plane has it.
      const size = Math.max(0.35, 1 - length(point) ** 2);
      const r = (node.kind === "me" ? 0.032 : node.kind === "neighbour" ? 0.023 : 0.018) * (0.55 + 0.45 * size);
      const dot = make("circle", { class: `node ${node.kind}${onPath.has(node.id) ? " on" : ""}`, cx: point[0], cy: point[1], r }, dots);
      make("title", {}, dot).textContent = `${this.call(node.id)} at ${node.address}`;
      dot.addEventListener("click", () => this.choose(node.id));
    }
    this.label(points, onPath, lines, texts);
  }

  /** Names, the important ones first, each where it covers no other and no line, if there is such a spot. */
  label(points, onPath, lines, layer) {
    const { nodes } = this.scene;
    const rank = (node) => node.kind === "me" ? 0 : onPath.has(node.id) ? 1 : node.kind === "neighbour" ? 2 : 3;
    const size = innerWidth <= 900 ? 0.056 : 0.04;
    const taken = [...nodes.values()].map((node) => points.get(node.address)).map(([x, y]) => ({ x: x - 0.02, y: y - 0.02, w: 0.04, h: 0.04 }));
    const crossed = lines.flatMap(([a, b]) => LINE_PARTS.map((part) => between(a, b, part)));
    const root = [...nodes.values()].find((node) => node.address === "/")?.id;
    for (const node of [...nodes.values()].sort((a, b) => rank(a) - rank(b))) {
      const [x, y] = points.get(node.address);
      const important = rank(node) < 2 || node.id === root;
      if (!important && length([x, y]) > 0.97) continue;
      const text = this.call(node.id) + (node.id === root && node.kind !== "me" ? " (root)" : "");
      const w = text.length * size * LETTER;
      const spots = [[x + 0.036, y - size / 2], [x - 0.036 - w, y - size / 2], [x - w / 2, y - 0.042 - size], [x - w / 2, y + 0.042]];
      const fits = (box) => Math.abs(box.x) < 1.02 && box.x + w < 1.03 &&
        !taken.some((other) => box.x < other.x + other.w && other.x < box.x + box.w && box.y < other.y + other.h && other.y < box.y + box.h);
      const boxes = spots.map(([bx, by]) => ({ x: bx, y: by, w, h: size })).filter(fits);
      const free = (box) => !crossed.some(([cx, cy]) => cx > box.x - 0.01 && cx < box.x + w + 0.01 && cy > box.y - 0.01 && cy < box.y + size + 0.01);
      const box = boxes.find(free) ?? (important ? boxes[0] : undefined);
      if (!box) continue;
      taken.push(box);
      const strength = node.kind === "me" ? "strong" : important || node.kind === "neighbour" ? "" : "minor";
      make("text", { class: strength, x: box.x, y: box.y + size * 0.8 }, layer).textContent = text;
    }
  }
}
