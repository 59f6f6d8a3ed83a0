// The stores that lead the newest closed window, by a measure of choice.

import { csv, save } from "./csv.js";
import { h, set } from "./dom.js";
import { columns } from "./windows.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./types.d.ts").Top} Top */
/** @typedef {import("./types.d.ts").Window} Window */

export class TopStores {
  /** @type {Top | null} */
  #top = null;
  /** @type {AbortController | null} */
  #choosing = null;

  /** @param {App} app */
  constructor(app) {
    this.#app = app;
    this.#measure = h("select", { id: "measure", testid: "top-measure", onchange: () => this.#chosen() });
    this.#window = h("p", { class: "hint" });
    this.#body = h("tbody");
    this.#value = h("th", { scope: "col", class: "number" });
    this.#empty = h("p", { class: "nothing", hidden: true }, app.t("top.none"));
    this.#save = h("button", { type: "button", class: "button", testid: "csv-export-top", onclick: () => save("storeflow-top.csv", this.csv()) }, app.t("csv"));
    this.#table = h("table", { testid: "top-table", "aria-labelledby": "top-title" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "number rank" }, app.t("top.rank")), h("th", { scope: "col" }, app.t("top.store")), this.#value)), this.#body);
    this.element = h("section", { class: "card", "aria-labelledby": "top-title" },
      h("div", { class: "card-head" }, h("h2", { id: "top-title" }, app.t("top.title")), h("div", { class: "card-tools" },
        h("label", { class: "choice", for: "measure" }, h("span", {}, app.t("top.measure")), this.#measure), this.#save)),
      this.#window, this.#table, this.#empty);
  }

  #app;
  #measure;
  #window;
  #body;
  #value;
  #empty;
  #save;
  #table;

  /**
   * @param {Window[]} windows of which the measures are offered
   * @param {AbortSignal} signal
   */
  async load(windows, signal) {
    const measures = columns(windows).filter(({ what }) => what === "sum" || what === "items" || what === "clicks");
    const before = this.#measure.value;
    if ([...this.#measure.options].map((option) => option.value).join("\n") !== measures.map(({ measure }) => measure).join("\n")) {
      this.#measure.replaceChildren(...measures.map(({ measure, what, second = "" }) =>
        h("option", { value: measure, selected: measure === before }, this.#app.t(`table.${what}`, { second }))));
    }
    await this.#show(signal);
  }

  stop() {
    this.#choosing?.abort();
  }

  csv() {
    const top = this.#top;
    return csv([["rank", "store", top?.measure ?? "", "window_start"], ...(top?.stores ?? []).map(({ rank, store, value }) => [rank, store, value, top?.window.start])]);
  }

  #chosen() {
    this.#choosing?.abort();
    this.#choosing = new AbortController();
    const { signal } = this.#choosing;
    this.#show(signal).catch((error) => !signal.aborted && this.#app.troubled(error));
  }

  /** @param {AbortSignal} signal */
  async #show(signal) {
    const measure = this.#measure.value;
    this.#empty.hidden = measure !== "";
    this.#table.hidden = measure === "";
    if (measure === "") return;
    /** @type {Top} */
    const top = await this.#app.api.get(`/v1/top?measure=${encodeURIComponent(measure)}&limit=10`, signal);
    // Another one may have been chosen meanwhile.
    if (signal.aborted || this.#measure.value !== measure) return;
    this.#top = top;
    const { t, formats } = this.#app;
    const [name, second = ""] = /** @type {[string, string?]} */ (measure.includes(":") ? [measure.slice(0, measure.indexOf(":")), measure.slice(measure.indexOf(":") + 1)] : [measure]);
    this.#value.textContent = this.#measure.selectedOptions[0]?.textContent ?? measure;
    this.#window.textContent = t("top.window", { window: formats.window(top.window.start, top.window.end) });
    this.#empty.hidden = top.stores.length > 0;
    this.#table.hidden = top.stores.length === 0;
    this.#save.disabled = top.stores.length === 0;
    const there = new Map([...this.#body.children].map((row) => [row.getAttribute("data-of"), row]));
    this.#body.replaceChildren(...top.stores.map((one) => {
      const of = JSON.stringify([measure, one]);
      return there.get(of) ?? h("tr", { data: { store: one.store, rank: one.rank, of } },
        h("td", { class: "number rank" }, one.rank),
        h("td", {}, h("a", { href: this.#app.address(one.store), testid: "top-link" }, one.store)),
        h("td", { class: "number", data: { measure, value: one.value } }, name === "payment_sum" ? formats.money(one.value, second) : formats.count(one.value)));
    }));
    set(this.#table, { data: { window: top.window.start } });
  }
}
