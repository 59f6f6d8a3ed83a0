// How soon and how heavy: one page in a browser that was just started and has nothing kept.
//
// Keeps: the page's own clock, which begins with its navigation. What Playwright takes to ask is not the page's.

import { page as newPage, start } from "./chromium.mjs";

/// Milliseconds from the navigation until the page has numbers and can be used; and the bytes that came over the wire: of the page, in
/// so many `files`, with heads (`page_bytes`) and without (`page_body_bytes`), and of the API (`api_bytes`).
export async function cold(url, looks) {
  const browser = await start();
  try {
    const page = await newPage(browser, looks);
    const finished = [];
    page.on("requestfinished", (request) => finished.push(request));
    await page.addInitScript(() => {
      const usable = () =>
        document.querySelector('[data-testid="windows-table"] tr[data-window]') &&
        document.querySelector('[data-testid="freshness"]')?.dataset.asOf &&
        document.querySelector('[data-testid="store-search"]');
      const observer = new MutationObserver(() => {
        if (!usable()) return;
        observer.disconnect();
        // Once what is there has been painted.
        requestAnimationFrame(() => setTimeout(() => (globalThis.usableAfter = performance.now())));
      });
      observer.observe(document, { subtree: true, childList: true, attributes: true });
    });
    await page.goto(url);
    const usable = await page.waitForFunction(() => globalThis.usableAfter);
    const measured = { usable_ms: await usable.jsonValue(), page_bytes: 0, page_body_bytes: 0, api_bytes: 0, files: 0 };
    for (const request of finished) {
      const { responseBodySize, responseHeadersSize } = await request.sizes();
      // An icon that is asked for twice comes from memory the second time, which Chromium gives a size below zero.
      if (responseBodySize < 0) continue;
      const ofApi = new URL(request.url()).pathname.startsWith("/v1/");
      measured[ofApi ? "api_bytes" : "page_bytes"] += responseBodySize + responseHeadersSize;
      if (!ofApi) {
        measured.page_body_bytes += responseBodySize;
        measured.files += 1;
      }
    }
    return measured;
  } finally {
    await browser.close();
  }
}
