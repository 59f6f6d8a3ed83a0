// A browser that does what it is told: a command in JSON per line of standard input, an answer in JSON per line of standard output.
// It ends, and Chromium with it, when its input does.
//
//   {"do": "open", "url": "http://127.0.0.1:8080/#/stores/7", "theme": "dark"}     ──►  {"answer": …} or {"error": "…"}
//
// Absent on purpose: any idea of what is right. The test that asks has the numbers.

import { createInterface } from "node:readline";

import { axe, page as newPage, start, watch } from "./chromium.mjs";
import { cold } from "./cold.mjs";
import { click, download, overflow, read, searchByKeyboard, shown, theme, walkTheChart } from "./dashboard.mjs";

// More than anything takes on a slow machine; what hangs is said rather than waited for.
const PATIENCE_MS = 90_000;

const browser = await start();
let page = null;
let seen = null;

const commands = {
  /// A new page, as in a browser that was never here. With numbers: "wait" is false where there will be none.
  async open({ url, wait = true, ...looks }) {
    await page?.context().close();
    page = await newPage(browser, looks);
    seen = watch(page);
    await page.goto(url);
    if (wait) await shown(page);
  },
  /// Another view of the same page.
  async go({ hash }) {
    await page.evaluate((to) => (location.hash = to), hash);
  },
  shown: () => shown(page),
  read: () => read(page),
  seen: () => seen,
  overflow: () => overflow(page),
  click: ({ name }) => click(page, name),
  theme: ({ to }) => theme(page, to),
  search: ({ store }) => searchByKeyboard(page, store),
  chart: () => walkTheChart(page),
  download: ({ name }) => download(page, name),
  /// The page's clock goes on from an instant, as if nobody had looked meanwhile; no timer fires for it.
  clock: ({ to }) => page.clock.setSystemTime(to),
  /// What axe finds wrong with the page as it stands.
  async axe() {
    await page.evaluate(axe);
    // Colours on their way from one theme to the other are nobody's choice. What moves for ever is not waited for.
    await page.evaluate(() => {
      const passing = document.getAnimations().filter((animation) => Number.isFinite(animation.effect?.getComputedTiming().endTime));
      return Promise.all(passing.map((animation) => animation.finished.catch(() => {})));
    });
    const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
    const places = ({ nodes }) => nodes.map(({ target, failureSummary }) => `${target.join(" ")}: ${failureSummary}`);
    return {
      violations: violations.map((violation) => ({ ...violation, nodes: places(violation) })),
      passes: passes.length,
    };
  },
  /// A picture of what is on the screen, or with "whole" of the whole page.
  async screenshot({ path, whole = false }) {
    await page.screenshot({ path, fullPage: whole, animations: "disabled" });
  },
  cold: ({ url, ...looks }) => cold(url, looks),
};

const late = (what) =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`"${what}" took more than ${PATIENCE_MS} ms`)), PATIENCE_MS).unref());

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...rest } = JSON.parse(line);
  let reply;
  try {
    reply = { answer: (await Promise.race([commands[name](rest), late(name)])) ?? null };
  } catch (error) {
    reply = { error: `${name}: ${error.stack ?? error}` };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
await browser.close();
process.exit();
