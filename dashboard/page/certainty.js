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
  /** @param {number | null} value */
  const trouble = (value) => (value !== null && value > 0 ? "warn" : "");
  return [
    h("div", { class: "card-head" }, h("h2", { id: "certain-title" }, t("certain.title"))),
    h("p", { class: "hint" }, t("certain.lead")),
    h("dl", { class: "cards small" },
      card(t("certain.lag"), lag === null ? t("certain.lag.unknown") : formats.count(lag), { testid: "certainty-lag", data: { value: lag ?? "" }, notes: [t("certain.lag.note")] }),
      card(t("certain.dead"), formats.count(dead), { testid: "certainty-dead-letters", data: { value: dead }, kind: trouble(dead), notes: [t("certain.dead.note")] }),
      card(t("certain.late"), formats.count(status.late_contributions), { testid: "certainty-late", data: { value: status.late_contributions }, kind: trouble(status.late_contributions), notes: [t("certain.late.note")] }),
      card(t("certain.corrections"), formats.count(status.corrections), { testid: "certainty-corrections", data: { value: status.corrections }, notes: [t("certain.corrections.note")] }),
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
