// What the badge says: up to when the numbers are exact, when more come, and what is wrong if something is.

/** @typedef {import("./types.d.ts").Fresh} Fresh */
/** @typedef {import("./format.js").Formats} Formats */
/** @typedef {"waiting" | "live" | "late" | "finished" | "unreachable"} State */

/** A window that is so much overdue is late; the server uses the same. */
const PATIENCE_MS = 60_000;

/**
 * @param {Fresh | null} fresh what the server said last
 * @param {number} now by the server's clock, milliseconds
 * @param {number | null} silent since when the server has not answered, by this machine's clock
 * @returns {State}
 */
export function stateOf(fresh, now, silent) {
  if (silent !== null) return "unreachable";
  if (!fresh) return "waiting";
  if (fresh.state === "finished") return "finished";
  // The stream speaks when something new comes. That nothing does is for us to notice.
  const overdue = fresh.next_due !== null && now > Date.parse(fresh.next_due) + PATIENCE_MS;
  return fresh.state === "late" || overdue ? "late" : "live";
}

/**
 * @param {State} state
 * @param {Fresh | null} fresh
 * @param {number | null} silent
 * @param {Formats} formats
 * @param {(key: any, places?: Record<string, string>) => string} t
 */
export function wordsOf(state, fresh, silent, formats, t) {
  const asOf = fresh?.as_of ?? Date.now();
  const time = (/** @type {string | number | null | undefined} */ instant) => (instant === null || instant === undefined ? "–" : formats.time(instant, asOf));
  const [until, next] = [time(fresh?.exact_until), time(fresh?.next_until)];
  const zone = formats.zone;
  const detail = fresh ? t("fresh.detail", { asof: formats.moment(asOf), zone, next, due: time(fresh.next_due) }) : "";
  switch (state) {
    case "waiting":
      return { text: t("fresh.waiting"), detail };
    case "finished":
      return { text: t("fresh.finished", { asof: formats.moment(asOf) }), detail: t("fresh.detail.finished", { zone }) };
    case "unreachable":
      return { text: t(fresh?.exact_until ? "fresh.unreachable.until" : "fresh.unreachable", { since: formats.time(silent ?? Date.now()), until }), detail };
    default:
      return { text: t(fresh?.exact_until ? `fresh.${state}` : "fresh.none", { until, next }), detail };
  }
}
