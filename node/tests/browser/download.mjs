// Opens a page through a proxy in Chromium, clicks on its link, and waits until the download behind it is complete: node/tests/moving_forwards.rs.
//
// The argument is JSON: { chromium, proxy, url, folder }.

import { Chromium, drive } from "./chromium.mjs";

const { chromium, proxy, url, folder } = JSON.parse(process.argv[2]);
const browser = await Chromium.start(chromium, [`--proxy-server=${proxy}`]);

async function run() {
  const page = await browser.page();
  await browser.call("Browser.setDownloadBehavior", { behavior: "allow", browserContextId: page.profile, downloadPath: folder, eventsEnabled: true });
  const ended = new Promise((done) => browser.listeners.push(({ method, params }) => {
    if (method === "Browser.downloadProgress" && params.state !== "inProgress") done(params.state);
  }));
  await page.open(url);
  await page.until("the page", `document.querySelector("a")`);
  await page.click("a");
  const state = await ended;
  if (state !== "completed") throw new Error(`the download is ${state}`);
}

await drive(browser, run);
