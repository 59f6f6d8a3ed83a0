// What the dashboard shows, read off the page as it stands: by the names in its `data-testid`, the exact value beside the text that
// a person reads. Judging is left to whoever asks.
//
// Upholds: everything of one answer was on the page at the same moment.

const at = (name) => `[data-testid="${name}"]`;

/// Waits until the page shows numbers.
export async function shown(page) {
  await page.locator(`${at("windows-table")} tr[data-window]`).first().waitFor();
  await page.waitForFunction((selector) => document.querySelector(selector)?.dataset.asOf, at("freshness"));
}

/// Everything that the page says: of a store, or of all of them.
export async function read(page) {
  return page.evaluate(() => {
    const all = (selector, from = document) => [...from.querySelectorAll(selector)];
    const one = (name) => document.querySelector(`[data-testid="${name}"]`);
    const visible = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    const number = (element) => ({ value: element.dataset.value, text: element.innerText.trim(), visible: visible(element) });
    const data = (name) => (one(name) ? { ...one(name).dataset, text: one(name).innerText.trim() } : null);
    // "today-sum-KRW" and the like: by what follows the dash.
    const by = (prefix) =>
      Object.fromEntries(
        all(`[data-testid^="${prefix}"]`).map((element) => [
          element.dataset.testid.slice(prefix.length),
          { ...number(element), open: element.dataset.open ?? "" },
        ]),
      );
    const cells = (row) => Object.fromEntries(all("td[data-measure]", row).map((cell) => [cell.dataset.measure, number(cell)]));
    const single = (name) => (one(name) ? number(one(name)) : null);
    return {
      url: location.href,
      lang: document.documentElement.lang,
      theme: document.documentElement.dataset.theme,
      background: getComputedStyle(document.body).backgroundColor,
      title: document.title,
      store: one("store-title")?.dataset.store ?? null,
      job: one("job-name")?.innerText.trim() ?? null,
      freshness: data("freshness"),
      live: one("live-state")?.dataset.state ?? null,
      problem: data("problem"),
      product_count: single("product-count"),
      today: { sums: by("today-sum-"), counts: by("today-count-"), items: single("today-items"), clicks: single("today-clicks") },
      totals: { sums: by("total-sum-"), counts: by("total-count-"), items: single("total-items"), clicks: single("total-clicks") },
      active_stores: single("active-stores"),
      newest_window: one("newest-window")?.dataset.window ?? null,
      chart: data("chart"),
      funnel: all('[data-testid="funnel-step"]').map((step) => ({ kind: step.dataset.kind, ...number(step) })),
      windows: all('[data-testid="windows-table"] tr[data-window]').map((row) => ({
        window: row.dataset.window,
        closed: row.dataset.closed === "true",
        revision: Number(row.dataset.revision),
        text: row.innerText,
        cells: cells(row),
      })),
      top: all('[data-testid="top-table"] tr[data-store]').map((row) => ({
        store: row.dataset.store,
        rank: Number(row.dataset.rank),
        cells: cells(row),
      })),
      certainty: Object.fromEntries(
        ["lag", "dead-letters", "late", "corrections"].map((name) => [name, one(`certainty-${name}`)?.dataset.value ?? null]),
      ),
    };
  });
}

/// What of the page is wider than the screen.
export async function overflow(page) {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    // What scrolls within a box of its own makes the page no wider.
    const boxed = (element) => {
      for (let box = element.parentElement; box && box !== document.body; box = box.parentElement) {
        if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(box).overflowX)) return true;
      }
      return false;
    };
    const wide = [...document.body.querySelectorAll("*")].filter(
      (element) => element.getBoundingClientRect().right > width + 1 && !boxed(element),
    );
    return {
      width,
      scroll_width: document.documentElement.scrollWidth,
      wide: wide.slice(0, 10).map((element) => element.outerHTML.slice(0, 160)),
    };
  });
}

/// Finds a store with the keyboard alone, from the top of the page: Tab to the search, its name, down, Enter. How many steps it took.
export async function searchByKeyboard(page, store) {
  await page.evaluate(() => document.activeElement?.blur());
  const focused = () => page.evaluate(() => document.activeElement?.dataset?.testid ?? null);
  let steps = 0;
  while ((await focused()) !== "store-search") {
    steps += 1;
    if (steps > 20) throw new Error("20 times Tab do not lead to the search");
    await page.keyboard.press("Tab");
  }
  await page.keyboard.type(store);
  const option = page.locator(`${at("store-option")}[data-store="${store}"]`);
  await option.waitFor();
  // The one that was asked for need not be the first that begins so.
  for (let down = 0; down < 20; down += 1) {
    await page.keyboard.press("ArrowDown");
    steps += 1;
    if ((await option.getAttribute("aria-selected")) === "true") {
      await page.keyboard.press("Enter");
      await page.locator(`${at("store-title")}[data-store="${store}"]`).waitFor();
      return steps;
    }
  }
  throw new Error(`the arrow key never selects store ${store}`);
}

/// Goes over all windows of the chart with the arrow keys; what it says of each.
export async function walkTheChart(page) {
  const chart = page.locator(at("chart")).first();
  await chart.focus();
  await page.keyboard.press("Home");
  const said = [];
  const windows = Number(await chart.getAttribute("data-windows"));
  for (let step = 0; step < windows; step += 1) {
    said.push(await page.locator(at("chart-announce")).first().innerText());
    await page.keyboard.press("ArrowRight");
  }
  return said;
}

/// Presses a button, and gives the file that it makes.
export async function download(page, name) {
  const [file] = await Promise.all([page.waitForEvent("download"), page.locator(at(name)).click()]);
  const chunks = [];
  for await (const chunk of await file.createReadStream()) chunks.push(chunk);
  return { name: file.suggestedFilename(), text: Buffer.concat(chunks).toString("utf8") };
}

/// Presses the button for the theme until it is the one.
export async function theme(page, wanted) {
  const button = page.locator(at("theme-toggle"));
  for (let press = 0; press < 3; press += 1) {
    if ((await button.getAttribute("data-theme")) === wanted) return;
    await button.click();
  }
  if ((await button.getAttribute("data-theme")) !== wanted) throw new Error(`the button never says "${wanted}"`);
}

/// Presses a button or follows a link.
export async function click(page, name) {
  await page.locator(at(name)).first().click();
}
