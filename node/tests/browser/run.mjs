// Drives the dashboard in Chromium as its owner does, against real nodes: node/tests/browser.rs starts them and this.
//
// The argument is JSON: { url, chromium, axe, pictures, relays: { name: process id }, page }. `axe` is the file of axe-core, or null: then the checks of
// accessibility.mjs alone do. `page` is a folder from which the page's files are taken instead of the node's, to work on them without a build.

import { createServer } from "node:http";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import assert from "node:assert/strict";
import { Chromium, drive } from "./chromium.mjs";
import { faults } from "./accessibility.mjs";

const { url, chromium, axe: axeFile, pictures, relays, page: folder } = JSON.parse(process.argv[2]);
const [origin] = url.split("/#");
const axe = axeFile ? readFileSync(axeFile, "utf8") : null;
const browser = await Chromium.start(chromium);
const step = (text) => console.error(`browser: ${text}`);

async function overridden(page) {
  if (!folder) return;
  const kinds = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
  browser.listeners.push(({ method, params, sessionId }) => {
    if (method !== "Fetch.requestPaused" || sessionId !== page.session) return;
    const { pathname } = new URL(params.request.url);
    const file = pathname === "/" ? "/index.html" : pathname;
    const body = readFileSync(join(folder, file)).toString("base64");
    page.call("Fetch.fulfillRequest", { requestId: params.requestId, responseCode: 200, responseHeaders: [{ name: "Content-Type", value: kinds[file.split(".").pop()] }], body });
  });
  await page.call("Fetch.enable", { patterns: ["", "*.js", "*.css", "*.svg"].map((end) => ({ urlPattern: `${origin}/${end}` })) });
}

async function accessible(page, where) {
  const found = await faults(page, axe);
  assert.deepEqual(found, [], `${where}: ${JSON.stringify(found, null, 1)}`);
}

const text = (id) => `document.getElementById(${JSON.stringify(id)}).textContent`;
const shown = (id) => `!document.getElementById(${JSON.stringify(id)}).hidden`;
const hops = `[...document.querySelectorAll("#path-hops li")].map((e) => e.textContent).join(" ")`;
const pill = `document.querySelector(".session .pill")?.textContent`;

async function run() {
  const page = await browser.page();
  await overridden(page);
  await page.scheme("light");
  await page.size(1440, 1000);

  step("without a token there is only the door");
  await page.open(`${origin}/`);
  await page.until("the door", `${shown("door")} && document.getElementById("board").hidden`);
  await accessible(page, "the door");
  await page.run(`document.getElementById("token").value = "wrong"; document.querySelector("#login button").click()`);
  await page.until("a refusal", `${text("notice")}.includes("muses dashboard")`);
  const refused = page.complaints.splice(0);
  assert.ok(refused.every((line) => line.includes("401")), refused.join());

  step("with it the overlay is there, and the token is gone from the address");
  await page.open("about:blank");
  await page.open(url);
  await page.until("the session", `${shown("board")} && ${pill} === "established"`);
  assert.equal(await page.run("location.href"), `${origin}/`);
  assert.equal(await page.run("document.cookie"), "", "the cookie is not for scripts");
  const before = await page.until("the whole path", `(() => { const w = ${hops}.split(" "); return w.length >= 4 && w.at(-1) === "alice" && w.join(" "); })()`);
  step(`the path is ${before}`);
  await page.until("throughput", `parseFloat(${text("rate-received")}) > 0`);
  await page.until("a curve", `document.querySelectorAll("#chart .line.received").length === 1`);
  assert.ok(await page.run(`document.querySelectorAll("#disk .node").length`) >= 5);
  assert.ok(await page.run(`document.querySelectorAll("#disk .path").length`) >= 3);
  assert.ok((await page.run(text("disk-text"))).includes("alice"));

  step("pictures, and accessibility in each");
  await new Promise((done) => setTimeout(done, 6000));
  const looks = [["light", "light", 1440, 1000, false], ["dark", "dark", 1440, 1000, false], ["phone", "dark", 390, 844, true]];
  for (const [name, scheme, width, height, mobile] of looks) {
    await page.scheme(scheme);
    await page.size(width, height, mobile);
    await new Promise((done) => setTimeout(done, 900));
    assert.ok(await page.run(`document.documentElement.scrollWidth <= ${width}`), `${name}: wider than the window`);
    const wide = `[...document.querySelectorAll(".neighbours .scroll")].some((each) => each.scrollWidth > each.clientWidth)`;
    assert.equal(await page.run(wide), false, `${name}: neighbours beyond the edge`);
    await accessible(page, name);
    if (pictures) writeFileSync(join(pictures, `${name}.png`), await page.picture(true));
  }
  await page.scheme("light");
  await page.size(1440, 1000);

  step("the switch of light and dark wins, and is kept");
  const background = "getComputedStyle(document.body).backgroundColor";
  const light = await page.run(background);
  await page.click("#theme");
  await page.click("#theme");
  assert.equal(await page.run(text("theme")), "Theme: dark");
  assert.notEqual(await page.run(background), light);
  await page.call("Page.reload");
  await page.until("still in after a reload", `${shown("board")} && ${pill} === "established" && ${text("theme")} === "Theme: dark"`);
  await page.click("#theme");

  step("a node comes to the middle by the keyboard, and stays in focus");
  await page.run(`document.querySelector("#nodes").closest("details").open = true; document.querySelector("#nodes button[data-node]").focus()`);
  const held = "document.activeElement.dataset.node";
  const id = await page.run(held);
  await page.press("Enter");
  await page.until("it is chosen", `document.activeElement.getAttribute("aria-pressed") === "true"`);
  await page.until("it is in the middle", `[...document.querySelectorAll("#disk .node")].some((dot) => Math.hypot(dot.cx.baseVal.value, dot.cy.baseVal.value) < 1e-3)`);
  assert.equal(await page.run(held), id, "the table was written anew around it");
  await page.click("#centre-all");

  step("flight mode, by the keyboard");
  await page.call("Page.reload");
  await page.until("in", `${shown("board")} && ${pill} === "established"`);
  await page.press("Tab");
  assert.equal(await page.run("document.activeElement.className"), "skip");
  for (let i = 0; i < 5 && await page.run("document.activeElement.id") !== "flight"; i++) await page.press("Tab");
  assert.equal(await page.run("document.activeElement.id"), "flight");
  await page.press("Enter");
  await page.until("flight mode", `${text("standing")} === "flight mode" && ${pill} === "waiting for a way"`);
  assert.equal(await page.run(`document.getElementById("flight").getAttribute("aria-checked")`), "true");
  assert.ok((await page.run(text("neighbours"))).includes("None in flight mode"));
  await accessible(page, "flight mode");
  if (pictures) writeFileSync(join(pictures, "outage.png"), await page.picture(false));
  await page.until("the focus is back", `document.activeElement.id === "flight" || (document.getElementById("flight").focus(), false)`);
  await page.press("Enter");
  await page.until("the session goes on", `${pill} === "established" && ${text("standing")} === "in the overlay"`);
  await page.until("the event", `${text("events")}.includes("session with alice resumed")`);

  step("a relay on the path dies: the path is another one");
  const dead = (await page.until("a path", `${hops}.split(" ").length >= 4 && ${hops}`)).split(" ")[1];
  process.kill(relays[dead], "SIGKILL");
  const after = await page.until("another path", `(() => { const w = ${hops}.split(" "); return w.length >= 4 && !w.includes(${JSON.stringify(dead)}) && w.at(-1) === "alice" && ${pill} === "established" && w.join(" "); })()`, 900);
  step(`${dead} died; the path is ${after}`);

  step("another origin reads and changes nothing");
  const server = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<!doctype html><title>elsewhere</title>"));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  // In the owner's profile: cookies know no ports, so that this page's requests carry the dashboard's.
  const elsewhere = await browser.page(page.profile);
  await elsewhere.open(`http://127.0.0.1:${server.address().port}/`);
  await elsewhere.until("the other page", `document.title === "elsewhere"`);
  const attempts = `Promise.all([
    fetch("${origin}/api/state", { credentials: "include" }).then(() => "read", () => "refused"),
    fetch("${origin}/api/network", { method: "POST", mode: "no-cors", credentials: "include", body: '{"up":false}' }).then((a) => a.status === 0 ? "opaque" : "read", () => "refused"),
    fetch("${origin}/", { credentials: "include" }).then(() => "read", () => "refused"),
    new Promise((done) => { const f = document.createElement("iframe"); f.src = "${origin}/"; f.onload = () => { try { done(f.contentDocument ? "read" : "refused"); } catch { done("refused"); } }; document.body.append(f); }),
  ])`;
  assert.ok(!(await elsewhere.run(attempts)).includes("read"));
  for (const path of ["state", "network"]) {
    const asked = [...elsewhere.exchanges.values()].find(({ url }) => url === `${origin}/api/${path}`);
    assert.equal(asked.status, 403, `${path}: refused for where it comes from`);
    assert.ok(asked.cookie, `${path}: with the owner's cookie`);
  }
  server.close();
  assert.equal(await page.run(text("standing")), "in the overlay");

  step("a session is cut after a question");
  await page.click(".session .cut");
  await page.until("the question", `document.getElementById("confirm").open`);
  await accessible(page, "the question");
  await page.press("Escape");
  await page.until("no question", `!document.getElementById("confirm").open`);
  assert.equal(await page.run(pill), "established");
  await page.click(".session .cut");
  await page.until("the question", `document.getElementById("confirm").open`);
  await page.click("#confirm .danger");
  await page.until("no session", `${text("sessions")}.includes("No session")`);

  assert.ok(await page.run(`!(${shown("testnet")})`), "an ordinary node has no menu");
  assert.deepEqual(page.complaints, []);
  const strange = page.requests.filter((request) => !request.startsWith(`${origin}/`) && request !== "about:blank");
  assert.deepEqual(strange, [], "everything came from the node");
}

await drive(browser, run);
