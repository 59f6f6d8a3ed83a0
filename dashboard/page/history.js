// The last windows of a store or of all: payments as a chart, clicks as a chart and as the way to a purchase, and all of it as a table.

import { Chart } from "./chart.js";
import { sum, toPixels } from "./decimal.js";
import { fill, h, set } from "./dom.js";
import { funnel } from "./funnel.js";
import { WindowTable } from "./table.js";
import { currencies, grid, itemsSold, kinds, placed, revision, total } from "./windows.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./types.d.ts").Window} Window */
/** @typedef {import("./chart.js").Slot} Slot */

/** @typedef {{ windows: Window[], asOf: string, length: number }} Shown */

/** So many kinds of clicks have lines that can be told apart. */
const LINES = 5;
const DASHES = [undefined, [8, 4], [3, 3], [10, 3, 2, 3], [1, 4]];

/** Charts and table, as one element. */
export class History {
  /** @type {Shown | null} */
  #shown = null;

  /**
   * @param {App} app
   * @param {string} name what it is of, for names of files
   */
  constructor(app, name) {
    this.#app = app;
    this.#currency = h("select", { id: "currency", testid: "currency-select", onchange: () => this.#payments() });
    this.#currencyPlace = h("label", { class: "choice", for: "currency", hidden: true }, h("span", {}, app.t("chart.currency")), this.#currency);
    this.#chart = new Chart("chart", "chart-hint", 270);
    this.#chartNone = h("p", { class: "nothing", hidden: true }, app.t("chart.none"));
    this.#clicks = new Chart("clicks-chart", "chart-hint", 310);
    this.#clicksNone = h("p", { class: "nothing", hidden: true }, app.t("chart.none"));
    this.#clicksKey = h("ul", { class: "legend" });
    this.#funnel = h("ol", { class: "funnel", testid: "funnel" });
    this.#funnelNone = h("p", { class: "nothing", hidden: true }, app.t("funnel.none"));
    this.#table = new WindowTable(app, name);
    const legend = h("ul", { class: "legend" },
      h("li", {}, h("span", { class: "swatch box" }), `${app.t("chart.sum")}, ${app.t("chart.closed")}`),
      h("li", {}, h("span", { class: "swatch box hatched" }), app.t("chart.open")),
      h("li", {}, h("span", { class: "swatch line" }), app.t("chart.count")),
      h("li", {}, h("span", { class: "swatch diamond" }), app.t("chart.corrected")));
    this.#corrected = /** @type {HTMLElement} */ (legend.lastElementChild);
    this.charts = h("div", { class: "stack" },
      h("section", { class: "card", "aria-labelledby": "chart-title" },
        h("div", { class: "card-head" }, h("h2", { id: "chart-title" }, app.t("chart.payments")), h("div", { class: "card-tools" }, this.#currencyPlace)),
        legend, this.#chart.element, this.#chartNone, h("p", { id: "chart-hint", class: "hint" }, app.t("chart.hint"))),
      h("div", { class: "pair" },
        h("section", { class: "card", "aria-labelledby": "clicks-title" },
          h("div", { class: "card-head" }, h("h2", { id: "clicks-title" }, app.t("chart.clicks"))), this.#clicksKey, this.#clicks.element, this.#clicksNone),
        h("section", { class: "card", "aria-labelledby": "funnel-title" },
          h("div", { class: "card-head" }, h("h2", { id: "funnel-title" }, app.t("funnel.title"))), h("p", { class: "hint" }, app.t("funnel.lead")), this.#funnel, this.#funnelNone)));
    this.table = this.#table.element;
  }

  #app;
  #currency;
  #currencyPlace;
  #chart;
  #chartNone;
  #clicks;
  #clicksNone;
  #clicksKey;
  #funnel;
  #funnelNone;
  #table;
  #corrected;

  /**
   * @param {Window[]} windows oldest first
   * @param {string} asOf
   * @param {number} length of a window, milliseconds
   */
  show(windows, asOf, length) {
    const starts = grid(Date.parse(asOf), length);
    const within = windows.filter((window) => Date.parse(window.start) >= starts[0]);
    this.#shown = { windows: within, asOf, length };
    this.#table.show(within);
    this.#payments();
    this.#clicked();
    this.#way();
  }

  destroy() {
    this.#chart.destroy();
    this.#clicks.destroy();
  }

  /** The windows' places, and what is in them; before the first of all nothing is known, after it nothing is zero. */
  #places() {
    const { windows, asOf, length } = /** @type {Shown} */ (this.#shown);
    const starts = grid(Date.parse(asOf), length);
    const cells = placed(starts, windows);
    const first = cells.findIndex((cell) => cell !== null);
    // A window without cells is open if the one before it is, or if the as-of is in it.
    let open = false;
    /** @type {Slot[]} */
    const slots = starts.map((start, at) => {
      open = cells[at] ? !(/** @type {Window} */ (cells[at]).closed) : open || start + length > Date.parse(asOf);
      const cell = cells[at];
      return { start, end: start + length, open, corrected: cell !== null && cell.closed && revision(cell) > 0 };
    });
    return { windows, cells, slots, first };
  }

  #payments() {
    if (!this.#shown) return;
    const { t, formats } = this.#app;
    const { windows, cells, slots, first } = this.#places();
    const all = currencies(windows);
    if ([...this.#currency.options].map((option) => option.value).join() !== all.join()) {
      const before = this.#currency.value;
      this.#currency.replaceChildren(...all.map((currency) => h("option", { value: currency, selected: currency === before }, currency)));
    }
    const currency = this.#currency.value;
    this.#currencyPlace.hidden = all.length < 2;
    this.#chartNone.hidden = all.length > 0;
    this.#chart.element.hidden = all.length === 0;
    this.#corrected.hidden = !slots.some((slot) => slot.corrected);
    if (all.length === 0) return;
    const payments = cells.map((cell) => cell?.payments.find((one) => one.currency === currency) ?? null);
    const amount = (/** @type {number} */ at) => toPixels(payments[at]?.sum ?? "0");
    const highest = payments.reduce((best, one, at) => (one && (best < 0 || amount(at) > amount(best)) ? at : best), -1);
    this.#chart.show({
      slots,
      formats,
      shape: "payments",
      lines: [
        { kind: "bars", axis: "left", color: "--sum", values: payments.map((one) => (one ? toPixels(one.sum) : null)) },
        { kind: "line", axis: "right", color: "--count", values: payments.map((one, at) => (one ? one.count : at > first ? 0 : null)) },
      ],
      summary: t("chart.summary", {
        currency, count: slots.length,
        from: formats.time(slots[0].start, slots[slots.length - 1].end), to: formats.time(slots[slots.length - 1].end),
        sum: formats.money(sum(payments.flatMap((one) => one?.sum ?? [])), currency),
        high: formats.money(payments[highest]?.sum ?? "0", currency), when: formats.time(slots[Math.max(highest, 0)].start, slots[slots.length - 1].end),
      }),
      tip: (at) => [
        ...this.#tipHead(slots[at], cells[at]),
        h("strong", {}, formats.money(payments[at]?.sum ?? "0", currency)),
        t("sum.count", { count: formats.count(payments[at]?.count ?? 0) }, payments[at]?.count ?? 0),
        ...(cells[at] && itemsSold(/** @type {Window} */ (cells[at])) !== null ? [`${t("items.title")}: ${formats.count(itemsSold(/** @type {Window} */ (cells[at])) ?? 0)}`] : []),
      ],
    });
  }

  #clicked() {
    const { t, formats } = this.#app;
    const { windows, cells, slots, first } = this.#places();
    const all = kinds(windows);
    const drawn = all.slice(0, LINES);
    this.#clicksNone.hidden = all.length > 0;
    this.#clicks.element.hidden = all.length === 0;
    const sums = total(windows).clicks;
    fill(this.#clicksKey,
      drawn.map((kind, at) => h("li", {}, h("span", { class: `swatch line k${at}` }), kind)),
      all.length > LINES ? h("li", {}, t("chart.other", { count: formats.count(all.length - LINES) })) : null);
    if (all.length === 0) return;
    const count = (/** @type {number} */ at, /** @type {string} */ kind) => cells[at]?.clicks.find((one) => one.kind === kind)?.count;
    this.#clicks.show({
      slots: slots.map((slot, at) => ({ ...slot, corrected: slot.corrected && (cells[at]?.clicks.some((one) => (one.revision ?? 0) > 0) ?? false) })),
      formats,
      shape: drawn.join("\n"),
      lines: drawn.map((kind, line) => ({ kind: "line", axis: "left", color: `--k${line}`, dash: DASHES[line], values: cells.map((_, at) => count(at, kind) ?? (at > first ? 0 : null)) })),
      summary: t("chart.summary.clicks", {
        count: slots.length, from: formats.time(slots[0].start, slots[slots.length - 1].end), to: formats.time(slots[slots.length - 1].end),
        kinds: sums.map((one) => `${one.kind} ${formats.count(one.count)}`).join(", "),
      }),
      tip: (at) => [
        ...this.#tipHead(slots[at], cells[at]),
        ...all.filter((kind) => count(at, kind) !== undefined).map((kind) => {
          const one = cells[at]?.clicks.find((click) => click.kind === kind);
          const products = one?.products_clicked;
          const clicked = products ? ` (${t("chart.tip.clicked", { count: formats.count(products) }, products)})` : "";
          return `${kind}: ${formats.count(one?.count ?? 0)}${clicked}`;
        }),
      ],
    });
  }

  #way() {
    const { windows } = /** @type {Shown} */ (this.#shown);
    const { t, formats } = this.#app;
    const { clicks, payments } = total(windows);
    const paid = payments.reduce((all, one) => all + one.count, 0);
    const steps = funnel(clicks, paid);
    const nothing = clicks.length === 0 && paid === 0;
    const most = Math.max(1, ...steps.map((step) => step.count));
    this.#funnelNone.hidden = !nothing;
    this.#funnel.hidden = nothing;
    fill(this.#funnel, steps.map((step) => {
      const bar = h("span", { class: "part" });
      // The style sheet cannot know the share; the object model may say it where a style attribute may not.
      bar.style.setProperty("--share", String(step.count / most));
      return h("li", { testid: "funnel-step", data: { kind: step.kind ?? "payments", value: step.count } },
        h("span", { class: "name" }, step.kind ?? t("funnel.payments")),
        h("span", { class: "figure" }, formats.count(step.count)),
        h("span", { class: "track", "aria-hidden": "true" }, bar),
        // Clicks may be a sample, and not every purchase begins with one: a share of more than all says nothing.
        h("span", { class: "share" }, step.share === null ? "" : step.share > 1 ? t("funnel.more") : t("funnel.share", { share: formats.percent(step.share) })));
    }));
    set(this.#funnel, { "aria-labelledby": "funnel-title" });
  }

  /**
   * @param {Slot} slot
   * @param {Window | null} cell
   */
  #tipHead(slot, cell) {
    const { t, formats } = this.#app;
    const iso = (/** @type {number} */ instant) => new Date(instant).toISOString();
    const times = cell ? revision(cell) : 0;
    return [
      h("span", { class: "tip-window" }, formats.window(iso(slot.start), iso(slot.end))),
      ...(slot.open ? [h("span", { class: "tip-open" }, t("chart.tip.open"))] : []),
      ...(slot.corrected ? [h("span", { class: "tip-corrected" }, t("chart.tip.corrected", { count: formats.count(times) }, times))] : []),
      ...(cell ? [] : [t("chart.tip.empty")]),
    ];
  }
}
