// Presses each order of a testnet's menu in Chromium, and looks at the nodes for what came of it: testnet/tests/scenario.rs starts them and this.
//
// The argument is JSON: { url, chromium, axe, pictures, sockets }. `sockets` are the control sockets of n0, n1, ...; `axe` and `pictures` may be null.

import { connect } from "node:net";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import assert from "node:assert/strict";
import { Chromium, drive } from "../../../node/tests/browser/chromium.mjs";
import { faults } from "../../../node/tests/browser/accessibility.mjs";

const { url, chromium, axe: axeFile, pictures, sockets } = JSON.parse(process.argv[2]);
const axe = axeFile ? readFileSync(axeFile, "utf8") : null;
const browser = await Chromium.start(chromium);
const step = (text) => console.error(`browser: ${text}`);

/** What a node says to a verb; throws when there is none. */
function ask(node, verb) {
  return new Promise((done, failed) => {
    let answer = "";
    const socket = connect(sockets[node], () => socket.write(`${JSON.stringify({ verb })}\n`));
    socket.on("error", failed).on("data", (piece) => {
      answer += piece;
      if (answer.endsWith("\n")) { socket.destroy(); done(JSON.parse(answer).data); }
    });
  });
}

async function until(what, holds, tries = 600) {
  for (let i = 0; i < tries; i++) {
    if (await holds()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`not in time: ${what}`);
}

const said = `document.getElementById("testnet-said").textContent`;
const counted = `document.getElementById("testnet-count").textContent`;
const options = `[...document.getElementById("testnet-node").options].map((e) => e.textContent).join()`;

async function run() {
  const page = await browser.page();
  const press = async (order, answer) => {
    await page.click(`#order-${order}`);
    await page.until(`${order}: ${answer}`, `${said}.includes(${JSON.stringify(answer)})`, 600);
  };
  await page.scheme("light");
  await page.size(1440, 1000);
  await page.open(url);
  await page.until("the menu", `!document.getElementById("testnet").hidden && ${counted} === "6 processes"`);
  assert.equal(await page.run(options), "n0,n1,n2,n3,n4,n5");
  assert.equal(await page.run(`document.getElementById("testnet-node").value`), "n5", "not the one whose page this is");
  await page.until("throughput", `parseFloat(document.getElementById("rate-received").textContent) > 0`);
  await page.until("the disk and the sessions call it as the menu does", `document.querySelector(".session .who").textContent.includes("n5") && document.getElementById("disk").textContent.includes("n5")`);
  const ids = await Promise.all(sockets.map(async (_, node) => (await ask(node, "status")).node));
  const linked = async (from, to) => (await ask(from, "peers")).some((peer) => peer.node === ids[to]);
  const across = async () => {
    for (const from of [0, 1, 2]) for (const to of [3, 4, 5]) if (await linked(from, to)) return true;
    return false;
  };

  const way = () => page.run(`[...document.querySelectorAll("#path-hops li")].map((e) => e.textContent).join(" ")`);
  const whole = async () => { const hops = (await way()).split(" "); return hops.length >= 4 && hops[0] === "n0" && hops.at(-1) === "n5"; };
  await until("there is a way to see, of three links", whole);

  step("move, at phone width");
  await page.size(390, 844, true);
  await press("move", "n5 has no network");
  await page.until("it moves", `${options}.includes("n5 (moving)")`);
  await page.until("it has moved", `${options}.endsWith(",n5") && ${said}.startsWith("n5 is back")`);
  await until("n5 is elsewhere", async () => { const { listen, links } = await ask(5, "status"); return links > 0 && listen.join().includes("127.0.3.1"); });
  await until("the way is whole again", whole);
  await page.until("the session goes on", `document.querySelector(".session .pill")?.textContent === "established"`);

  step("pictures, and accessibility in each");
  for (const [name, scheme, width, height, mobile] of [["testnet", "light", 1440, 1000, false], ["dark", "dark", 1440, 1000, false], ["phone", "dark", 390, 844, true]]) {
    await page.scheme(scheme);
    await page.size(width, height, mobile);
    await new Promise((done) => setTimeout(done, 900));
    assert.ok(await page.run(`document.documentElement.scrollWidth <= ${width}`), `${name}: wider than the window`);
    const found = await faults(page, axe);
    assert.deepEqual(found, [], `${name}: ${JSON.stringify(found, null, 1)}`);
    if (pictures && name === "testnet") writeFileSync(join(pictures, `${name}.png`), await page.picture(true));
  }
  await page.scheme("light");
  await page.size(1440, 1000);

  step("away and back, of a node that is chosen");
  await page.run(`document.getElementById("testnet-node").value = "n4"`);
  await press("away", "n4 is away");
  assert.ok((await page.run(options)).includes("n4 (away)"));
  await until("n4 has no link", async () => (await ask(4, "status")).links === 0);
  await press("back", "n4 is back");
  await until("n4 has a link", async () => (await ask(4, "status")).links > 0);

  step("partition and heal");
  await press("partition", "parted: 3 nodes and 3");
  assert.equal(await page.run(counted), "6 processes in two halves");
  await until("each half has links of its own and none to the other", async () => await linked(0, 1) && !(await across()));
  await press("heal", "they may link again");
  assert.equal(await page.run(counted), "6 processes");
  await until("there are links between the halves again", across);

  step("kill, by the keyboard, after a question; the page's own node is not killed by it");
  await page.run(`document.getElementById("order-kill").focus()`);
  const open = `document.getElementById("confirm").open`;
  await page.press("Enter");
  await page.until("the question", `${open} && document.getElementById("confirm-title").textContent === "Kill n4?"`);
  assert.deepEqual(await faults(page, axe), []);
  await page.press("Escape");
  await page.until("no question", `!${open} && document.activeElement.id === "order-kill"`);
  assert.equal((await ask(4, "status")).node, ids[4]);
  await page.press("Enter");
  await page.until("the question", open);
  await page.press("Tab");
  await page.press("Enter");
  await page.until("n4 is dead", `${said} === "n4 is dead" && ${options} === "n0,n1,n2,n3,n5"`);
  await assert.rejects(ask(4, "status"));
  await page.run(`document.getElementById("testnet-node").value = "n0"`);
  await press("kill", "n0 serves this page");
  assert.equal(await page.run(open), false);

  // While the halves are parted nobody answers for the way; the page keeps what it knew and asks again.
  const unexpected = page.complaints.filter((line) => !(line.includes("/api/path?") && line.includes("409")));
  assert.deepEqual(unexpected, []);
}

await drive(browser, run);
