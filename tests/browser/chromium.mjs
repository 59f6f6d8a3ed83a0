// Chromium of the system, with a page in it, and a record of everything that a user would not see: what the page logged, what it
// asked for, what failed.
//
// Upholds: no request can leave the host unseen. Every name but the loopback's resolves to nothing, so that what the page asks of
// the world fails by name; and every URL is kept, whatever came of it.

import { createRequire } from "node:module";

// NODE_PATH is where `scripts/services browser` put them, and only require() looks there.
const require = createRequire(import.meta.url);
const { chromium } = require("playwright-core");

/// The source of axe, which runs within a page.
export const axe = require("axe-core").source;

const ARGUMENTS = [
  "--no-sandbox", // root has none, and the only page is ours
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];

/// Starts it; STOREFLOW_TEST_BROWSER says which.
export async function start() {
  return chromium.launch({ executablePath: process.env.STOREFLOW_TEST_BROWSER, args: ARGUMENTS });
}

/// A page of a browser that has seen nothing yet: `locale`, `theme` ("light", "dark"), `width`, `height` (CSS pixels), `scale`.
export async function page(browser, { locale = "en-US", theme = "light", width = 1280, height = 900, scale = 1 }) {
  const context = await browser.newContext({
    locale,
    colorScheme: theme,
    viewport: { width, height },
    deviceScaleFactor: scale,
    // What a reader in Seoul and one in Paris see of the same window must not depend on where the test runs.
    timezoneId: "Asia/Seoul",
    acceptDownloads: true,
  });
  const opened = await context.newPage();
  opened.setDefaultTimeout(30_000);
  return opened;
}

/// What happens behind the page, from now on.
export function watch(opened) {
  const seen = { console: [], errors: [], failed: [], refused: [], requested: [], navigations: 0 };
  opened.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") {
      seen.console.push(`${message.type()}: ${message.text()} (${message.location().url})`);
    }
  });
  opened.on("pageerror", (error) => seen.errors.push(String(error.stack ?? error)));
  opened.on("request", (request) => seen.requested.push(request.url()));
  opened.on("requestfailed", (request) => seen.failed.push(`${request.failure()?.errorText} ${request.url()}`));
  opened.on("response", (response) => {
    if (response.status() >= 400) seen.refused.push(`${response.status()} ${response.url()}`);
  });
  // A change of what follows "#" is none: the page stays.
  opened.on("request", (request) => {
    if (request.isNavigationRequest() && request.frame() === opened.mainFrame()) seen.navigations += 1;
  });
  return seen;
}
