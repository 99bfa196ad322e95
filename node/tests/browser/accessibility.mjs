// Faults in accessibility: by axe-core when its source is at hand, and by checks of our own in any case.

/** What is wrong with the page as it is now, serious things only. */
export async function faults(page, axe) {
  const own = await page.run(`(${check})()`);
  if (!axe) return own;
  await page.run(`${axe};0`);
  const rules = JSON.stringify({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] });
  const found = await page.run(`axe.run(document, ${rules}).then(({ violations }) => violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map((node) => node.target.join(" ") + ": " + node.failureSummary) })))`);
  return [...own, ...found.filter(({ impact }) => impact === "serious" || impact === "critical")];
}

/** Runs in the page: names of controls and pictures, landmarks, headings, contrast of text, size of what is pressed. */
function check() {
  const wrong = [];
  const seen = (e) => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
  const called = (e) => `${e.tagName.toLowerCase()}${e.id ? "#" + e.id : ""}`;
  const byIds = (e, name) => (e.getAttribute(name) ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join("");
  const name = (e) => e.getAttribute("aria-label") || byIds(e, "aria-labelledby") || [...(e.labels ?? [])].map((label) => label.textContent).join("") || e.textContent;
  for (const e of all("button, a[href], input, [role=switch], [tabindex='0'], svg[role=img], dialog[open]")) if (!name(e).trim()) wrong.push(`${called(e)} has no name`);
  for (const e of all("img")) if (!e.hasAttribute("alt")) wrong.push(`${called(e)} has no alt`);
  if (!document.documentElement.lang || !document.title) wrong.push("the document has no language or no title");
  for (const landmark of ["main", "header", "h1"]) if (document.querySelectorAll(landmark).length !== 1) wrong.push(`not one ${landmark}`);
  let level = 0;
  for (const e of all("h1, h2, h3")) {
    const next = Number(e.tagName[1]);
    if (next > level + 1) wrong.push(`${called(e)} leaves a level out`);
    level = next;
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) wrong.push("an id comes twice");
  for (const e of all("th")) if (!e.scope) wrong.push(`a th without scope: ${e.textContent}`);
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (let at = e; at; at = at.parentElement) { const c = rgba(getComputedStyle(at).backgroundColor); if (c[3] > 250) return c; } return [255, 255, 255, 255]; };
  for (const e of all("body *")) {
    if (e.closest("svg") || e.disabled || ![...e.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())) continue;
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) wrong.push(`${called(e)} "${e.textContent.trim().slice(0, 30)}" has a contrast of ${ratio.toFixed(2)}`);
  }
  for (const e of all("button")) if (e.getBoundingClientRect().height < 24) wrong.push(`${called(e)} is too small to press`);
  return wrong;
}
