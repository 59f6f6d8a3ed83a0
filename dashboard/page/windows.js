// The API's windows as columns: a grid without holes for charts, names of measures for tables, sums over some of them.

import { sum } from "./decimal.js";

/** @typedef {import("./types.d.ts").Window} Window */
/** @typedef {import("./types.d.ts").Sums} Sums */

/** How many windows charts show. */
export const SHOWN = 48;

/**
 * The starts of the last windows up to the one that an instant falls into, oldest first, in milliseconds.
 * @param {number} asOf milliseconds; what is known is before it
 * @param {number} length milliseconds
 */
export function grid(asOf, length) {
  const newest = Math.floor(Math.max(asOf - 1, 0) / length) * length;
  return Array.from({ length: SHOWN }, (_, at) => newest - (SHOWN - 1 - at) * length).filter((start) => start >= 0);
}

/**
 * The windows in their places; `null` where nothing happened.
 * @param {number[]} starts
 * @param {Window[]} windows
 * @returns {(Window | null)[]}
 */
export function placed(starts, windows) {
  const by = new Map(windows.map((window) => [Date.parse(window.start), window]));
  return starts.map((start) => by.get(start) ?? null);
}

/** How often a window was corrected; of all stores that is not known. @param {Window} window */
export function revision(window) {
  return window.revision ?? 0;
}

/** @param {Window} window */
export function itemsSold(window) {
  return window.sales ? window.sales.items_sold : window.items_sold ?? null;
}

/**
 * The currencies of windows: those with the most payments first.
 * @param {{ payments: { currency: string, count: number }[] }[]} windows
 */
export function currencies(windows) {
  return ranked(windows.flatMap(({ payments }) => payments.map(({ currency, count }) => [currency, count])));
}

/**
 * The kinds of clicks of windows: the most frequent first.
 * @param {{ clicks: { kind: string, count: number }[] }[]} windows
 */
export function kinds(windows) {
  return ranked(windows.flatMap(({ clicks }) => clicks.map(({ kind, count }) => [kind, count])));
}

/** @param {(string | number)[][]} pairs */
function ranked(pairs) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const [name, count] of pairs) counts.set(String(name), (counts.get(String(name)) ?? 0) + Number(count));
  return [...counts].sort(([one, a], [other, b]) => b - a || (one < other ? -1 : 1)).map(([name]) => name);
}

/**
 * Sums over windows; exact.
 * @param {Window[]} windows
 * @returns {Sums}
 */
export function total(windows) {
  const payments = currencies(windows).sort().map((currency) => {
    const cells = windows.flatMap((window) => window.payments.filter((one) => one.currency === currency));
    return { currency, sum: sum(cells.map((one) => one.sum)), count: cells.reduce((all, one) => all + one.count, 0) };
  });
  const clicks = kinds(windows).map((kind) => ({
    kind,
    count: windows.flatMap((window) => window.clicks).filter((one) => one.kind === kind).reduce((all, one) => all + one.count, 0),
  }));
  return { payments, items_sold: windows.reduce((all, window) => all + (itemsSold(window) ?? 0), 0), clicks };
}

/**
 * Two sums as one, the provisional with the exact.
 * @param {Sums} one
 * @param {Sums} other
 */
export function together(one, other) {
  /** @param {Sums} sums @returns {Window} */
  const window = ({ payments, items_sold, clicks }) => ({ start: "", end: "", closed: true, payments, items_sold, clicks });
  return total([window(one), window(other)]);
}

/**
 * A column of the table: its measure as the API names it, and its value in a window, raw.
 * @typedef {object} Column
 * @property {string} measure
 * @property {"sum" | "count" | "items" | "products" | "clicks" | "clicked" | "stores"} what
 * @property {string} [second] currency or kind
 * @property {(window: Window) => string | number | null} value `null` where there is no cell
 */

/**
 * The measures that some window has.
 * @param {Window[]} windows
 * @returns {Column[]}
 */
export function columns(windows) {
  /** @type {Column[]} */
  const all = [];
  if (windows.some((window) => window.stores !== undefined)) {
    all.push({ measure: "stores", what: "stores", value: (window) => window.stores ?? null });
  }
  for (const currency of currencies(windows)) {
    /** @param {Window} window */
    const cell = (window) => window.payments.find((one) => one.currency === currency);
    all.push({ measure: `payment_sum:${currency}`, what: "sum", second: currency, value: (window) => cell(window)?.sum ?? null });
    all.push({ measure: `payment_count:${currency}`, what: "count", second: currency, value: (window) => cell(window)?.count ?? null });
  }
  if (windows.some((window) => itemsSold(window) !== null)) {
    all.push({ measure: "items_sold", what: "items", value: itemsSold });
  }
  if (windows.some((window) => window.sales)) {
    all.push({ measure: "products_sold", what: "products", value: (window) => window.sales?.products_sold ?? null });
  }
  for (const kind of kinds(windows)) {
    /** @param {Window} window */
    const cell = (window) => window.clicks.find((one) => one.kind === kind);
    all.push({ measure: `clicks:${kind}`, what: "clicks", second: kind, value: (window) => cell(window)?.count ?? null });
    if (windows.some((window) => cell(window)?.products_clicked !== undefined)) {
      all.push({ measure: `products_clicked:${kind}`, what: "clicked", second: kind, value: (window) => cell(window)?.products_clicked ?? null });
    }
  }
  return all;
}
