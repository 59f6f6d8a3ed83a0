// Single numbers in cards. What is exact is large; what is provisional stands below it and says so.

import { isZero } from "./decimal.js";
import { h } from "./dom.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./types.d.ts").Sums} Sums */

/**
 * @param {string} label
 * @param {string} value
 * @param {object} [more]
 * @param {string} [more.testid]
 * @param {Record<string, any>} [more.data]
 * @param {(Node | string | null)[]} [more.notes]
 * @param {string} [more.kind]
 */
export function card(label, value, { testid, data = {}, notes = [], kind = "" } = {}) {
  return h("div", { class: `number-card ${kind}`.trim() },
    h("dt", {}, label),
    h("dd", {}, h("span", { class: `value ${sizeOf(value)}`.trim(), testid: testid ?? "", data }, value), notes.map((note) => note && h("span", { class: "note" }, note))));
}

/** Numbers stay on one line: longer ones are smaller. @param {string} text */
function sizeOf(text) {
  return text.length > 20 ? "longest" : text.length > 12 ? "long" : "";
}

/**
 * A card for the payments of each currency; one that says so where there are none.
 * @param {App} app
 * @param {Sums} closed
 * @param {Sums} open
 * @param {string} prefix of the test ids: `today` or `total`
 * @param {"sum.today" | "sum.title"} label
 */
export function paymentCards(app, closed, open, prefix, label) {
  const names = [...new Set([...closed.payments, ...open.payments].map((one) => one.currency))].sort();
  if (names.length === 0) return [card(app.t(label, { currency: "" }).replace(/, $/, ""), app.t("sum.none"), { kind: "quiet" })];
  return names.map((currency) => {
    const exact = closed.payments.find((one) => one.currency === currency) ?? { sum: "0", count: 0 };
    const provisional = open.payments.find((one) => one.currency === currency);
    return card(app.t(label, { currency }), app.formats.money(exact.sum, currency), {
      testid: `${prefix}-sum-${currency}`,
      data: { value: exact.sum, open: provisional?.sum ?? "" },
      kind: "money",
      notes: [
        h("span", { testid: `${prefix}-count-${currency}`, data: { value: exact.count } }, app.t("sum.count", { count: app.formats.count(exact.count) }, exact.count)),
        provisional && !(isZero(provisional.sum) && provisional.count === 0) ? provisionalNote(app, app.formats.money(provisional.sum, currency)) : null,
      ],
    });
  });
}

/**
 * @param {App} app
 * @param {Sums} closed
 * @param {Sums} open
 * @param {string} prefix
 */
export function otherCards(app, closed, open, prefix) {
  const clicks = (/** @type {Sums} */ sums) => sums.clicks.reduce((all, one) => all + one.count, 0);
  /** @param {number} value */
  const more = (value) => (value === 0 ? null : provisionalNote(app, app.formats.count(value)));
  return [
    card(app.t("items.title"), app.formats.count(closed.items_sold), {
      testid: `${prefix}-items`, data: { value: closed.items_sold, open: open.items_sold }, notes: [more(open.items_sold)],
    }),
    card(app.t("clicks.title"), app.formats.count(clicks(closed)), {
      testid: `${prefix}-clicks`, data: { value: clicks(closed), open: clicks(open) }, notes: [more(clicks(open))],
    }),
  ];
}

/**
 * @param {App} app
 * @param {string} value
 */
function provisionalNote(app, value) {
  return h("span", { class: "provisional" }, app.t("sum.open", { value }));
}
