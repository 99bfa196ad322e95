// The Poincaré disk: where vertices of a tree are drawn. Pure; complex numbers are [re, im].
//
// Children and parents, and the order of children, are the overlay's own. Angles and lengths are not: in the overlay's plane edges are so long that
// all but a few vertices would be at the rim, and children leave 11 degrees apart. Here each subtree gets a sector by its number of leaves (Lamping
// and Rao, "The Hyperbolic Browser", 1996), and edges are as long as the sector is narrow.

const mul = ([a, b], [c, d]) => [a * c - b * d, a * d + b * c];
const add = ([a, b], [c, d]) => [a + c, b + d];
const conj = ([a, b]) => [a, -b];
const div = (x, y) => { const n = y[0] ** 2 + y[1] ** 2; return mul(x, [y[0] / n, -y[1] / n]); };
const polar = (r, angle) => [r * Math.cos(angle), r * Math.sin(angle)];
export const length = ([a, b]) => Math.hypot(a, b);

/** Isometries z -> (a z + b) / (conj(b) z + conj(a)), as [a, b]. */
const IDENTITY = [[1, 0], [0, 0]];
export const apply = ([a, b], z) => div(add(mul(a, z), b), add(mul(conj(b), z), conj(a)));
const compose = ([a, b], [c, d]) => [add(mul(a, c), mul(b, conj(d))), add(mul(a, d), mul(b, conj(c)))];
const shift = (to) => { const a = 1 / Math.sqrt(1 - length(to) ** 2); return [[a, 0], [to[0] * a, to[1] * a]]; };
const turn = (angle) => [polar(1, angle / 2), [0, 0]];
/** The isometry that brings `centre` to the middle. */
export const centred = (centre) => shift([-centre[0], -centre[1]]);

/** Farthest from the middle that a point is drawn: beyond, doubles lose it. */
const MAX_RADIUS = 0.9995;
/** Edges, as Euclidean distances from the middle. In a shallow tree there is room for longer ones. */
const MIN_EDGE = 0.34;
const MIN_EDGE_SHALLOW = 0.52;
const MAX_EDGE = 0.62;

/** "/3/0" as [3, 0]; null for what is no address. */
export function word(address) {
  if (typeof address !== "string" || !/^\/(\d+(\/\d+)*)?$/.test(address)) return null;
  return address === "/" ? [] : address.slice(1).split("/").map(Number);
}

export const parentOf = (address) => (address === "/" ? null : address.slice(0, address.lastIndexOf("/")) || "/");

/** The vertices of `addresses` and all above them: a Map from address to { children, leaves }. */
export function treeOf(addresses) {
  const tree = new Map();
  const visit = (address) => {
    if (tree.has(address)) return tree.get(address);
    const vertex = { children: [], leaves: 0 };
    tree.set(address, vertex);
    const parent = parentOf(address);
    if (parent !== null) visit(parent).children.push(address);
    return vertex;
  };
  for (const address of addresses) if (word(address)) visit(address);
  const ordinal = (address) => Number(address.slice(address.lastIndexOf("/") + 1));
  const deepestFirst = [...tree.keys()].sort((a, b) => word(b).length - word(a).length);
  for (const address of deepestFirst) {
    const vertex = tree.get(address);
    vertex.children.sort((a, b) => ordinal(a) - ordinal(b));
    vertex.leaves = vertex.children.reduce((sum, child) => sum + tree.get(child).leaves, 0) || 1;
  }
  return tree;
}

/** Where each vertex is with the root in the middle: a Map from address to a point. */
export function layout(addresses) {
  const tree = treeOf(addresses);
  const points = new Map();
  if (!tree.has("/")) return points;
  const depth = Math.max(...[...tree.keys()].map((address) => word(address).length));
  const least = Math.min(MIN_EDGE_SHALLOW, Math.max(MIN_EDGE, 1.7 / (depth + 1)));
  // A vertex, its frame, in which it is in the middle and its parent at the left, and half the angle of its sector.
  const waiting = [["/", IDENTITY, Math.PI]];
  while (waiting.length > 0) {
    const [address, frame, half] = waiting.pop();
    const at = apply(frame, [0, 0]);
    const r = length(at);
    points.set(address, r > MAX_RADIUS ? [at[0] * MAX_RADIUS / r, at[1] * MAX_RADIUS / r] : at);
    const { children, leaves } = tree.get(address);
    let from = -half;
    for (const child of children) {
      // The square root gives small subtrees more than their share, so that they can be told apart.
      const share = half * tree.get(child).leaves / leaves;
      const angle = from + share;
      from += 2 * share;
      const narrow = Math.min(share, Math.PI / 2);
      const edge = Math.min(MAX_EDGE, Math.max(least, MAX_EDGE - 0.3 * Math.sin(narrow)));
      const to = polar(edge, angle);
      // The sector's side ends at the rim; from the child that end is seen at this angle.
      const end = apply(shift([-to[0], -to[1]]), polar(1, angle + narrow));
      const seen = Math.abs(Math.atan2(...[...mul(end, polar(1, -angle))].reverse()));
      waiting.push([child, compose(frame, compose(shift(to), turn(angle))), Math.min(seen, Math.PI * 0.62)]);
    }
  }
  return points;
}

/** The middle of some points: their mean on the hyperboloid. */
export function middleOf(points) {
  const sum = points.reduce(([t, x, y], [a, b]) => {
    const n = 1 - a ** 2 - b ** 2;
    return [t + (2 - n) / n, x + 2 * a / n, y + 2 * b / n];
  }, [0, 0, 0]);
  const scale = sum[0] + Math.sqrt(Math.max(0, sum[0] ** 2 - sum[1] ** 2 - sum[2] ** 2));
  return scale > 0 ? [sum[1] / scale, sum[2] / scale] : [0, 0];
}

/** The point that far on the straight line from `a` to `b`: 0 is `a`, 1 is `b`. */
export function between(a, b, part) {
  const to = apply(centred(a), b);
  const r = length(to);
  const reached = r > 0 ? Math.tanh(part * Math.atanh(Math.min(r, MAX_RADIUS))) / r : 0;
  return apply(shift(a), [to[0] * reached, to[1] * reached]);
}

/** The hyperbolic straight line from `a` to `b` as the data of an SVG path. */
export function geodesic(a, b) {
  const f = (x) => x.toFixed(4);
  const cross = a[0] * b[1] - a[1] * b[0];
  const straight = `M${f(a[0])} ${f(a[1])}L${f(b[0])} ${f(b[1])}`;
  if (Math.abs(cross) <= 1e-3 * Math.hypot(a[0] - b[0], a[1] - b[1])) return straight;
  // The circle through both that meets the rim at right angles has its centre c with 2 c.p = 1 + |p|^2 for each.
  const [p, q] = [(1 + a[0] ** 2 + a[1] ** 2) / 2, (1 + b[0] ** 2 + b[1] ** 2) / 2];
  const c = [(p * b[1] - q * a[1]) / cross, (q * a[0] - p * b[0]) / cross];
  const radius = Math.sqrt(Math.max(0, c[0] ** 2 + c[1] ** 2 - 1));
  if (radius > 50) return straight;
  const sweep = (a[0] - c[0]) * (b[1] - c[1]) - (a[1] - c[1]) * (b[0] - c[0]) > 0 ? 1 : 0;
  return `M${f(a[0])} ${f(a[1])}A${f(radius)} ${f(radius)} 0 0 ${sweep} ${f(b[0])} ${f(b[1])}`;
}
