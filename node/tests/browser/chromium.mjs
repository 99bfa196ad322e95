// A headless Chromium, driven by its DevTools protocol over a pipe (--remote-debugging-pipe): no package is needed.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** axe-core looks at everything, and the machine may be busy. */
const CALL_TIMEOUT_MS = 120_000;
const POLL_MS = 100;

/** Runs to the end or to the first fault, stops the browser, and ends this process; its exit code says whether there was a fault. */
export async function drive(browser, run) {
  try {
    await run();
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  } finally {
    await browser.stop();
  }
  process.exit();
}

export class Chromium {
  /** `more` are arguments beside the usual ones. */
  static async start(program, more = []) {
    const browser = new Chromium();
    browser.folder = mkdtempSync(join(tmpdir(), "muses-chromium-"));
    const args = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run", `--user-data-dir=${browser.folder}`, ...more, "about:blank"];
    browser.process = spawn(program, args, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    browser.calls = new Map();
    browser.last = 0;
    browser.listeners = [];
    let rest = Buffer.alloc(0);
    browser.process.stdio[4].on("data", (piece) => {
      rest = Buffer.concat([rest, piece]);
      for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
        browser.hear(JSON.parse(rest.subarray(0, end).toString()));
        rest = rest.subarray(end + 1);
      }
    });
    return browser;
  }

  hear(message) {
    if (message.id === undefined) return this.listeners.forEach((listen) => listen(message));
    const { done, failed } = this.calls.get(message.id) ?? {};
    this.calls.delete(message.id);
    if (message.error) failed?.(new Error(JSON.stringify(message.error)));
    else done?.(message.result);
  }

  call(method, params = {}, sessionId = undefined) {
    const id = ++this.last;
    this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((done, failed) => {
      this.calls.set(id, { done, failed });
      setTimeout(() => this.calls.delete(id) && failed(new Error(`${method}: no answer`)), CALL_TIMEOUT_MS).unref();
    });
  }

  /** A page in this profile, with its cookies; or in one of its own. */
  async page(profile = undefined) {
    const browserContextId = profile ?? (await this.call("Target.createBrowserContext")).browserContextId;
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId, browserContextId);
    await Promise.all(["Page.enable", "Runtime.enable", "Network.enable", "Log.enable"].map((method) => page.call(method)));
    return page;
  }

  /** By its own command, so that its children are gone with it and write nothing more. */
  async stop() {
    const gone = new Promise((done) => this.process.once("exit", done));
    const late = setTimeout(() => this.process.kill("SIGKILL"), CALL_TIMEOUT_MS);
    this.call("Browser.close").catch(() => {});
    await gone;
    clearTimeout(late);
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  constructor(browser, session, profile) {
    Object.assign(this, { browser, session, profile, complaints: [], requests: [], exchanges: new Map() });
    browser.listeners.push(({ method, params, sessionId }) => {
      if (sessionId !== session) return;
      if (method === "Runtime.exceptionThrown") this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      if (method === "Log.entryAdded" && params.entry.level === "error") this.complaints.push(`${params.entry.text} ${params.entry.url ?? ""}`);
      if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
      // What a page must not see of an answer, the browser does.
      const exchange = this.exchanges.get(params.requestId) ?? {};
      if (method === "Network.requestWillBeSent") exchange.url = params.request.url;
      if (method === "Network.requestWillBeSentExtraInfo") exchange.cookie = params.headers.Cookie ?? params.headers.cookie;
      if (method === "Network.responseReceivedExtraInfo") exchange.status = params.statusCode;
      if (params.requestId && method.startsWith("Network.")) this.exchanges.set(params.requestId, exchange);
    });
  }

  call(method, params) { return this.browser.call(method, params, this.session); }
  open(url) { return this.call("Page.navigate", { url }); }

  /** The value of an expression in the page; promises are waited for. */
  async run(expression) {
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  async until(what, expression, tries = 300) {
    for (let i = 0; i < tries; i++) {
      const value = await this.run(expression).catch(() => undefined);
      if (value) return value;
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
    throw new Error(`not in time: ${what}; ${this.complaints.join("; ")}`);
  }

  /** As a person does: where the element is, by the mouse. */
  async click(selector) {
    const find = `(() => { const e = document.querySelector(${JSON.stringify(selector)}); e.scrollIntoView({ block: "center" }); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`;
    const [x, y] = await this.run(find);
    for (const type of ["mousePressed", "mouseReleased"]) await this.call("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
  }

  async press(key, code = key) {
    const text = key === "Enter" ? "\r" : undefined;
    const virtual = { Enter: 13, Tab: 9, Escape: 27, " ": 32 }[key];
    for (const type of ["keyDown", "keyUp"]) await this.call("Input.dispatchKeyEvent", { type, key, code, text: type === "keyDown" ? text : undefined, windowsVirtualKeyCode: virtual });
  }

  size(width, height, mobile = false) {
    return this.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: mobile ? 2 : 1, mobile });
  }

  scheme(value) {
    return this.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }, { name: "prefers-reduced-motion", value: "no-preference" }] });
  }

  async picture(full) {
    const { cssContentSize: { width, height } } = await this.call("Page.getLayoutMetrics");
    const clip = full ? { x: 0, y: 0, width, height, scale: 1 } : undefined;
    const { data } = await this.call("Page.captureScreenshot", { format: "png", captureBeyondViewport: Boolean(full), clip });
    return Buffer.from(data, "base64");
  }
}
