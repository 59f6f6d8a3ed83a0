// How far the numbers can be trusted: what has not been read, could not be read, came late.

import { card } from "./cards.js";
import { h } from "./dom.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./types.d.ts").Status} Status */

/**
 * @param {App} app
 * @param {Status} status
 * @returns {Node[]}
 */
export function certainty(app, status) {
  const { t, formats } = app;
  const lags = status.topics.map((topic) => topic.lag_records).filter((lag) => lag !== null);
  const lag = lags.length > 0 ? lags.reduce((all, one) => all + one, 0) : null;
  const dead = status.dead_letters.reduce((all, one) => all + one.count, 0);
  // Counts are of processes that run. Where there are none, such as behind a finished run's files, nothing is known, which is not zero.
  const known = (/** @type {number} */ count) => (status.processes.length > 0 ? count : null);
  /**
   * @param {"certain.lag" | "certain.dead" | "certain.late" | "certain.corrections"} name
   * @param {string} testid
   * @param {number | null} value
   * @param {boolean} [trouble] whether any of it is worth a look
   */
  const figure = (name, testid, value, trouble = false) =>
    card(t(name), value === null ? t("certain.unknown") : formats.count(value), {
      testid, data: { value: value ?? "" }, kind: value === null ? "quiet" : trouble && value > 0 ? "warn" : "", notes: [t(`${name}.note`)],
    });
  return [
    h("div", { class: "card-head" }, h("h2", { id: "certain-title" }, t("certain.title"))),
    h("p", { class: "hint" }, t("certain.lead")),
    h("dl", { class: "cards small" },
      figure("certain.lag", "certainty-lag", lag),
      figure("certain.dead", "certainty-dead-letters", known(dead), true),
      figure("certain.late", "certainty-late", known(status.late_contributions), true),
      figure("certain.corrections", "certainty-corrections", known(status.corrections)),
      status.checkpoint
        ? card(t("certain.checkpoint"), t("certain.ago", { duration: formats.duration(Math.round(status.checkpoint.age_seconds)) }), { testid: "certainty-checkpoint", notes: [t("certain.checkpoint.note")] })
        : ""),
    status.topics.length > 0
      ? h("div", { class: "table-scroll low", role: "group", tabindex: "0", "aria-label": t("certain.topics") },
          h("table", {},
            h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("certain.topic")), h("th", { scope: "col", class: "number" }, t("certain.behind")), h("th", { scope: "col", class: "number" }, t("certain.records")), h("th", { scope: "col", class: "number" }, t("certain.dead")), h("th", { scope: "col" }, t("certain.clock")))),
            h("tbody", {}, status.topics.map((topic) =>
              h("tr", {}, h("th", { scope: "row" }, topic.topic),
                h("td", { class: "number" }, topic.lag_records === null ? "–" : formats.count(topic.lag_records)),
                h("td", { class: "number" }, formats.count(topic.records)),
                h("td", { class: "number" }, formats.count(topic.dead_letters)),
                h("td", {}, topic.clock === null ? "–" : formats.moment(topic.clock)))))))
      : h("span"),
  ];
}
