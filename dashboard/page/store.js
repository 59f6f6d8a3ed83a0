// The page of one store.

import { card, otherCards, paymentCards } from "./cards.js";
import { fill, h, set } from "./dom.js";
import { Feed } from "./feed.js";
import { History } from "./history.js";
import { SHOWN, grid } from "./windows.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./types.d.ts").Store} Store */

/** The length of a window where nothing has said it yet. */
const USUAL_LENGTH_MS = 1_800_000;

/**
 * @param {App} app
 * @param {string} id
 */
export function storeView(app, id) {
  const path = `/v1/stores/${encodeURIComponent(id)}`;
  const history = new History(app, id);
  const lead = h("p", { class: "lead" });
  const incomplete = h("p", { class: "notice", hidden: true }, app.t("store.incomplete"));
  const cards = h("dl", { class: "cards" });
  const loading = h("p", { class: "loading", testid: "loading", role: "status" }, app.t("loading"));
  const numbers = h("div", { class: "stack", hidden: true }, incomplete, cards, history.charts, history.table);
  const element = h("div", { class: "stack" },
    h("div", { class: "view-head" }, h("a", { href: "#/", class: "back", testid: "home-link" }, app.t("home")), h("h1", { tabindex: "-1", testid: "store-title", data: { store: id } }, app.t("store.title", { store: id })), lead),
    loading, numbers);

  /** @param {Store} store */
  function update(store) {
    const { today, newest_closed_window: newest } = store;
    app.zone(today.timezone);
    app.fresh(store.fresh);
    const { formats, t } = app;
    lead.textContent = t("store.lead", { date: formats.day(store.as_of), zone: today.timezone });
    incomplete.hidden = today.complete;
    fill(cards,
      paymentCards(app, today.closed, today.open, "today", "sum.today"),
      otherCards(app, today.closed, today.open, "today"),
      card(t("store.products"), formats.count(store.product_count), { testid: "product-count", data: { value: store.product_count }, notes: [t("store.products.note")] }),
      newest
        ? card(t("store.newest"), formats.window(newest.start, newest.end, store.as_of), {
            testid: "newest-window", data: { window: newest.start }, kind: "text",
            notes: newest.payments.length === 0 && !newest.sales && newest.clicks.length === 0
              ? [t("store.quiet")]
              : newest.payments.map((one) => `${formats.money(one.sum, one.currency)} · ${t("sum.count", { count: formats.count(one.count) }, one.count)}`),
          })
        : card(t("store.newest"), t("store.newest.none"), { testid: "newest-window", data: { window: "" }, kind: "text" }));
    loading.hidden = true;
    numbers.hidden = false;
  }

  /** @param {Store} store */
  function lengthOf({ newest_closed_window: newest, fresh }) {
    if (newest) return Date.parse(newest.end) - Date.parse(newest.start);
    if (fresh.exact_until && fresh.next_until) return Date.parse(fresh.next_until) - Date.parse(fresh.exact_until);
    return USUAL_LENGTH_MS;
  }

  const feed = new Feed(app, {
    summary: path,
    stream: `/v1/stream?store=${encodeURIComponent(id)}`,
    update,
    load: async (/** @type {Store} */ store, signal) => {
      const length = lengthOf(store);
      const from = new Date(grid(Date.parse(store.as_of), length)[0]).toISOString();
      const list = await app.api.windows(`${path}/windows?from=${from}&open=true&limit=${SHOWN + 12}`, signal);
      if (!signal.aborted) history.show(list.windows, list.as_of, length);
    },
  });
  feed.start();
  set(element, { testid: "store-view" });
  return { element, name: id, stop: () => (feed.stop(), history.destroy()) };
}
