// All stores at once, for keys that may see them; a list of links for those that may not.

import { certainty } from "./certainty.js";
import { card, otherCards, paymentCards } from "./cards.js";
import { fill, h, set } from "./dom.js";
import { Feed } from "./feed.js";
import { dayStart } from "./format.js";
import { History } from "./history.js";
import { TopStores } from "./top.js";
import { SHOWN, grid, total } from "./windows.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./types.d.ts").Status} Status */
/** @typedef {import("./types.d.ts").Window} Window */

/** @param {App} app */
export function overview(app) {
  const history = new History(app, "all");
  const top = new TopStores(app);
  const lead = h("p", { class: "lead" });
  const cards = h("dl", { class: "cards" });
  const certain = h("section", { class: "card", "aria-labelledby": "certain-title", testid: "certainty" });
  /** @type {"today" | "windows"} */
  let period = "today";
  const periods = /** @type {const} */ (["today", "windows"]).map((one) =>
    h("button", { type: "button", testid: `period-${one}`, "aria-pressed": String(one === period), onclick: () => choose(one) }, app.t(`overview.${one}`, { count: app.formats.count(SHOWN) })));
  const loading = h("p", { class: "loading", testid: "loading", role: "status" }, app.t("loading"));
  const numbers = h("div", { class: "stack", hidden: true },
    h("div", { class: "segments", role: "group", "aria-label": app.t("overview.period") }, periods), cards, history.charts, h("div", { class: "pair" }, top.element, certain), history.table);
  const element = h("div", { class: "stack", testid: "overview" },
    h("div", { class: "view-head" }, h("h1", { tabindex: "-1" }, app.t("overview.title")), lead), loading, numbers);

  /** @type {{ status: Status, windows: Window[] } | null} */
  let shown = null;

  /** @param {"today" | "windows"} one */
  function choose(one) {
    period = one;
    periods.forEach((button, at) => set(button, { "aria-pressed": String((at === 0) === (one === "today")) }));
    sums();
  }

  /** @param {Status} status */
  function spans(status) {
    const asOf = Date.parse(status.as_of);
    return { today: dayStart(Math.max(asOf - 1, 0), app.formats.zone), windows: grid(asOf, status.window_seconds * 1_000)[0] };
  }

  function sums() {
    if (!shown) return;
    const { t, formats } = app;
    const from = spans(shown.status)[period];
    const within = shown.windows.filter((window) => Date.parse(window.start) >= from);
    const [closed, open] = [total(within.filter((window) => window.closed)), total(within.filter((window) => !window.closed))];
    const newest = shown.windows.findLast((window) => window.closed);
    fill(cards,
      paymentCards(app, closed, open, "total", "sum.title"),
      otherCards(app, closed, open, "total"),
      newest
        ? card(t("overview.active"), formats.count(newest.stores ?? 0), {
            testid: "active-stores", data: { value: newest.stores ?? 0 }, notes: [t("overview.active.note", { window: formats.window(newest.start, newest.end, shown.status.as_of) })],
          })
        : card(t("overview.active"), "–", { testid: "active-stores", notes: [t("overview.active.none")] }));
  }

  const feed = new Feed(app, {
    summary: "/v1/status",
    stream: "/v1/stream",
    update: (/** @type {Status} */ status) => {
      app.zone(status.timezone);
      app.fresh(status.fresh);
      app.job(status.job);
      lead.textContent = app.t("overview.lead", { job: status.job });
      fill(certain, certainty(app, status));
    },
    load: async (status, signal) => {
      const { today, windows } = spans(status);
      const from = new Date(Math.min(today, windows)).toISOString();
      const totals = await app.api.windows(`/v1/totals?from=${from}&open=true&limit=1000`, signal);
      if (signal.aborted) return;
      // Sums over all stores may lag behind; where the as-of stands from here on, nothing else would bring the rest.
      if (Date.parse(totals.as_of) < Date.parse(status.as_of)) feed.again();
      shown = { status, windows: totals.windows };
      loading.hidden = true;
      numbers.hidden = false;
      sums();
      history.show(totals.windows, totals.as_of, status.window_seconds * 1_000);
      await top.load(totals.windows, signal);
    },
  });
  feed.start();
  return { element, name: "", stop: () => (feed.stop(), history.destroy(), top.stop()) };
}

const LIMITED = 100;

/**
 * For a key of some stores only; one store alone is shown at once.
 * @param {App} app
 */
export function ownStores(app) {
  const list = h("ul", { class: "own-stores" });
  const lead = h("p", { class: "lead" }, app.t("overview.limited.lead"));
  const element = h("div", { class: "stack", testid: "overview-limited" }, h("div", { class: "view-head" }, h("h1", { tabindex: "-1" }, app.t("overview.limited")), lead), list);
  const asking = new AbortController();
  app.live("off");
  app.api.get(`/v1/stores?limit=${LIMITED}`, asking.signal).then(
    ({ stores, next_cursor: more }) => {
      if (asking.signal.aborted) return;
      app.calm();
      if (stores.length === 1) return app.go(stores[0], true);
      if (stores.length === 0) lead.textContent = app.t("overview.limited.none");
      list.replaceChildren(...stores.map((/** @type {string} */ store) => h("li", {}, h("a", { href: app.address(store), testid: "my-store", data: { store } }, store))));
      if (more !== null) element.append(h("p", { class: "hint" }, app.t("overview.limited.more")));
    },
    (error) => !asking.signal.aborted && app.troubled(error),
  );
  return { element, name: "", stop: () => asking.abort() };
}
