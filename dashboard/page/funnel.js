// The way to a purchase: what shares of those who looked went on to the cart, and so on to a payment.

/**
 * The steps of a shop that kinds of clicks are usually named after, in their order. Kinds that are no step (a search, a like) are not on the way.
 */
const STEPS = [/page.?view|visit|impression|^home/i, /view|detail|product/i, /cart|basket|bag/i, /checkout|begin.?order|order.?form/i, /purchase|order|pay|complete/i];

/**
 * @typedef {object} Step
 * @property {string | null} kind `null` is the payments
 * @property {number} count
 * @property {number | null} share of the step before; `null` of the first, and after nothing
 */

/**
 * Kinds that are known steps, in their order; where fewer than two are, all kinds, the most frequent first. The payments come last.
 * @param {{ kind: string, count: number }[]} kinds
 * @param {number} payments
 * @returns {Step[]}
 */
export function funnel(kinds, payments) {
  const staged = kinds.map((one) => ({ ...one, stage: STEPS.findIndex((step) => step.test(one.kind)) }));
  const known = staged.filter((one) => one.stage >= 0);
  const way = known.length >= 2 ? known : staged.map((one) => ({ ...one, stage: 0 }));
  way.sort((one, other) => one.stage - other.stage || other.count - one.count || (one.kind < other.kind ? -1 : 1));
  const steps = [...way.map(({ kind, count }) => ({ kind, count })), { kind: null, count: payments }];
  return steps.map((step, at) => ({ ...step, share: at === 0 || steps[at - 1].count === 0 ? null : step.count / steps[at - 1].count }));
}
