// The parts of the page that draw nothing: `node --test node/tests/browser`.

import test from "node:test";
import assert from "node:assert/strict";

const page = (name) => import(`../../src/dashboard/page/${name}.js`);
const { apply, between, centred, geodesic, layout, length, middleOf, parentOf, treeOf, word } = await page("geometry");
const { bytes, caller, duration, readable, short, span } = await page("words");
const { eventParser } = await page("api");
const { averages, niceTop, outages } = await page("chart");

const near = (a, b, by = 1e-6) => Math.hypot(a[0] - b[0], a[1] - b[1]) < by;
const id = (letter) => `12D3KooW${letter.repeat(44)}`;

test("addresses are words, and anything else is none", () => {
  assert.deepEqual([word("/"), word("/3"), word("/3/0/12")], [[], [3], [3, 0, 12]]);
  for (const bad of [null, undefined, "", "3", "//", "/3/", "/x", "/-1"]) assert.equal(word(bad), null, String(bad));
  assert.deepEqual([parentOf("/3/0"), parentOf("/3"), parentOf("/")], ["/3", "/", null]);
});

test("a tree has all vertices above those that are known", () => {
  const tree = treeOf(["/2/0/1", "/10", "/2/1", "nonsense"]);
  assert.deepEqual([...tree.keys()].sort(), ["/", "/10", "/2", "/2/0", "/2/0/1", "/2/1"]);
  assert.deepEqual(tree.get("/").children, ["/2", "/10"], "in the order of ordinals");
  assert.equal(tree.get("/").leaves, 3);
});

test("every vertex is inside, none is on another, and siblings keep their order", () => {
  const addresses = [];
  for (let a = 0; a < 9; a++) for (let b = 0; b < 4; b++) for (let c = 0; c < 3; c++) addresses.push(`/${a}/${b}/${c}`);
  const points = layout(addresses);
  const all = [...points.values()];
  assert.ok(all.every((point) => length(point) < 1 && point.every(Number.isFinite)));
  for (const [i, a] of all.entries()) for (const b of all.slice(i + 1)) assert.ok(!near(a, b, 1e-5));
  const angles = Array.from({ length: 9 }, (_, a) => Math.atan2(...[...points.get(`/${a}`)].reverse()));
  assert.deepEqual([...angles].sort((a, b) => a - b), angles);
});

test("a chain of 255 stays inside", () => {
  const point = layout([`/${Array(255).fill(0).join("/")}`]).get(`/${Array(255).fill(0).join("/")}`);
  assert.ok(length(point) < 1 && point.every(Number.isFinite));
});

test("nothing is laid out of nothing", () => assert.equal(layout([]).size, 0));

test("the middle comes to the middle, and distances stay", () => {
  const [a, b, c] = [[0.3, 0.4], [-0.5, 0.2], [0.1, -0.7]];
  const distance = (p, q) => length(apply(centred(p), q));
  const view = centred(a);
  assert.ok(near(apply(view, a), [0, 0]));
  assert.ok(Math.abs(distance(b, c) - distance(apply(view, b), apply(view, c))) < 1e-9);
  assert.ok(near(middleOf([[0.5, 0], [-0.5, 0]]), [0, 0]));
  assert.ok(near(middleOf([c]), c));
  assert.deepEqual(middleOf([]), [0, 0]);
});

test("a part of a line is that far on it", () => {
  const [a, b] = [[0.3, 0.4], [-0.5, 0.2]];
  const distance = (p, q) => Math.atanh(length(apply(centred(p), q)));
  const third = between(a, b, 1 / 3);
  assert.ok(Math.abs(distance(a, third) * 3 - distance(a, b)) < 1e-9);
  assert.ok(Math.abs(distance(a, third) + distance(third, b) - distance(a, b)) < 1e-9);
  assert.ok(near(between(a, a, 0.5), a));
});

test("a geodesic meets the rim at right angles; through the middle it is straight", () => {
  assert.equal(geodesic([0.1, 0.2], [0.1, 0.2]), "M0.1000 0.2000L0.1000 0.2000");
  assert.match(geodesic([0.5, 0], [-0.2, 0]), /^M0.5000 0.0000L-0.2000 0.0000$/);
  const [a, b] = [[0.6, 0], [0, 0.6]];
  const radius = Number(/A([\d.]+) /.exec(geodesic(a, b))[1]);
  // Centre (c, c) with 2 * 0.6 c = 1 + 0.36, and r^2 = 2 c^2 - 1.
  assert.ok(Math.abs(radius - Math.sqrt(2 * (1.36 / 1.2) ** 2 - 1)) < 1e-3);
});

test("numbers read well", () => {
  assert.deepEqual([0, 999, 1000, 12_345, 999_600, 2.5e9].map(bytes), ["0 B", "999 B", "1.00 kB", "12.3 kB", "1.00 MB", "2.50 GB"]);
  assert.deepEqual([null, 12, 1234, 45_678, 2_500_000].map(duration), ["–", "12 µs", "1.2 ms", "46 ms", "2.5 s"]);
  assert.deepEqual([0, 59, 60, 3725, 90_000].map(span), ["0 s", "59 s", "1 min", "1 h 2 min", "1 d 1 h"]);
  assert.deepEqual([0, 1001, 2500, 6_500_000].map(niceTop), [1000, 2000, 4000, 8_000_000]);
});

test("nodes are called by the name that comes first, or by the end of their id", () => {
  const call = caller([{ name: "pinned", node: id("a"), kind: "pin" }, { name: "pet", node: id("a"), kind: "petname" }, { name: "bob", node: id("b"), kind: "pin" }]);
  assert.deepEqual([call(id("a")), call(id("b")), call(id("c"))], ["pet", "bob", short(id("c"))]);
  assert.equal(readable(`session with ${id("b")} resumed`, call), "session with bob resumed");
});

test("events are found wherever the pieces are cut", () => {
  const text = 'event: state\ndata: {"a":"x: y"}\n\nevent: fact\ndata: [1]\n\n';
  for (let cut = 0; cut <= text.length; cut++) {
    const told = [];
    const parse = eventParser((event, data) => told.push([event, data]));
    parse(text.slice(0, cut));
    parse(text.slice(cut));
    assert.deepEqual(told, [["state", { a: "x: y" }], ["fact", [1]]]);
  }
});

test("samples are averaged, and outages found", () => {
  const sample = (s, received) => ({ at_unix_ms: s * 1000, received_bytes_per_s: received, sent_bytes_per_s: 0 });
  const rows = averages([sample(0, 10), sample(9, 20), sample(10, 5)], 10);
  assert.deepEqual(rows.map(({ at, received }) => [at, received]), [[10_000, 5], [0, 15]]);
  const fact = (at, text, kind = "session") => ({ at_unix_ms: at, kind, text });
  const facts = [fact(1, `session with ${id("a")} suspended: waiting`), fact(2, "detached", "place"), fact(3, `session with ${id("b")} suspended: waiting`), fact(5, `session with ${id("a")} resumed`)];
  assert.deepEqual(outages(facts, 9), [[1, 5], [3, 9]]);
  const revoked = fact(7, `the identity of ${id("b")} was revoked; nothing goes to it`);
  assert.deepEqual(outages([...facts, revoked], 9), [[1, 5], [3, 7]], "nobody waits for it any more");
});
