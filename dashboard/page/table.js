// The windows as a table: the accessible twin of the charts, and what is saved as CSV.

import { csv, fileName, save } from "./csv.js";
import { h, set } from "./dom.js";
import { SHOWN, columns, revision } from "./windows.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./types.d.ts").Window} Window */
/** @typedef {import("./windows.js").Column} Column */

/** A table of windows in a section of its own. */
export class WindowTable {
  /** @type {Window[]} */
  #windows = [];
  #words = "";

  /**
   * @param {App} app
   * @param {string} name what it is of, for the name of the file
   */
  constructor(app, name) {
    this.#app = app;
    this.#toggle = h("button", { type: "button", class: "button quiet", testid: "table-toggle", "aria-expanded": "true", "aria-controls": "windows", onclick: () => this.#turn() });
    this.#save = h("button", { type: "button", class: "button", testid: "csv-export", onclick: () => save(`storeflow-${fileName(name)}-windows.csv`, this.csv()) }, app.t("csv"));
    this.#caption = h("caption", { class: "unseen" });
    this.#head = h("thead");
    this.#body = h("tbody");
    this.#empty = h("p", { class: "nothing", hidden: true, testid: "windows-empty" }, app.t("table.none"));
    const table = h("table", { testid: "windows-table" }, this.#caption, this.#head, this.#body);
    this.#scroll = h("div", { id: "windows", class: "table-scroll", role: "group", tabindex: "0", "aria-labelledby": "windows-title" }, table);
    this.element = h("section", { class: "card", "aria-labelledby": "windows-title" },
      h("div", { class: "card-head" }, h("h2", { id: "windows-title" }, app.t("table.title")), h("div", { class: "card-tools" }, this.#toggle, this.#save)),
      this.#scroll, this.#empty);
    this.#label();
  }

  #app;
  #toggle;
  #save;
  #caption;
  #head;
  #body;
  #empty;
  #scroll;

  /** @param {Window[]} windows oldest first */
  show(windows) {
    this.#windows = [...windows].reverse();
    const app = this.#app;
    const measures = columns(this.#windows);
    this.#caption.textContent = app.t("table.caption", { count: app.formats.count(SHOWN) });
    this.#empty.hidden = windows.length > 0;
    this.#save.disabled = windows.length === 0;
    const heads = [app.t("table.window"), app.t("table.state"), ...measures.map((column) => this.#name(column))];
    if (heads.join("\n") !== this.#words) {
      this.#words = heads.join("\n");
      this.#head.replaceChildren(h("tr", {}, heads.map((head, at) => h("th", { scope: "col", class: at > 1 ? "number" : null }, head))));
      this.#body.replaceChildren();
    }
    // Rows that are as they were stay, with what is selected in them.
    const there = new Map([...this.#body.children].map((row) => [row.getAttribute("data-of"), row]));
    this.#body.replaceChildren(...this.#windows.map((window) => {
      const of = JSON.stringify([app.formats.zone, window]);
      return there.get(of) ?? this.#row(window, measures, of);
    }));
  }

  /** What is shown, with the API's names and raw values. */
  csv() {
    const measures = columns(this.#windows);
    return csv([
      ["window_start", "window_end", "closed", "revision", ...measures.map(({ measure }) => measure)],
      ...this.#windows.map((window) => [window.start, window.end, String(window.closed), window.revision ?? "", ...measures.map(({ value }) => value(window))]),
    ]);
  }

  /**
   * @param {Window} window
   * @param {Column[]} measures
   * @param {string} of
   */
  #row(window, measures, of) {
    const { formats } = this.#app;
    const times = revision(window);
    const state = !window.closed
      ? h("span", { class: "tag open" }, this.#app.t("table.open"))
      : times > 0
        ? h("span", { class: "tag corrected" }, this.#app.t("table.corrected", { count: formats.count(times) }, times))
        : h("span", { class: "tag" }, this.#app.t("table.closed"));
    return h("tr", { data: { window: window.start, closed: window.closed, revision: times, of } },
      h("th", { scope: "row" }, formats.window(window.start, window.end)),
      h("td", {}, state),
      measures.map((column) => {
        const value = column.value(window);
        const text = value === null ? "–" : column.what === "sum" ? formats.money(String(value), column.second ?? "") : formats.count(value);
        return h("td", { class: value === null ? "number none" : "number", data: { measure: column.measure, value: value ?? "" } }, text);
      }));
  }

  /** @param {Column} column */
  #name({ what, second = "" }) {
    return this.#app.t(`table.${what}`, { second });
  }

  #turn() {
    this.#scroll.hidden = !this.#scroll.hidden;
    set(this.#toggle, { "aria-expanded": String(!this.#scroll.hidden) });
    this.#label();
  }

  #label() {
    this.#toggle.textContent = this.#app.t(this.#scroll.hidden ? "table.show" : "table.hide");
  }
}
