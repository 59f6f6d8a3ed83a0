// Looking for a store: a combobox (ARIA authoring practices, list autocomplete), wholly operable by keys.

import { h, set } from "./dom.js";

/** @typedef {import("./app.js").App} App */

const OPTIONS = 8;
const TYPING_MS = 120;

/**
 * @param {App} app
 * @param {(store: string) => void} choose
 */
export function search(app, choose) {
  const input = h("input", {
    id: "search", type: "search", role: "combobox", testid: "store-search", autocomplete: "off", autocapitalize: "none", spellcheck: "false",
    "aria-autocomplete": "list", "aria-controls": "search-options", "aria-expanded": "false",
  });
  const list = h("ul", { id: "search-options", role: "listbox", testid: "store-options", hidden: true });
  const note = h("div", { class: "search-note", role: "status", testid: "search-note", hidden: true });
  const label = h("label", { for: "search", class: "unseen" });
  const panel = h("div", { class: "search-panel", hidden: true }, list, note);
  const element = h("div", { class: "search", role: "search" }, label, input, panel);

  /** @type {string[]} */
  let stores = [];
  let active = -1;
  /** @type {AbortController | null} */
  let asking = null;
  let timer = 0;

  async function ask() {
    asking?.abort();
    const mine = (asking = new AbortController());
    const prefix = input.value.trim();
    try {
      const found = await app.api.get(`/v1/stores?prefix=${encodeURIComponent(prefix)}&limit=${OPTIONS}`, mine.signal);
      if (!mine.signal.aborted) open(prefix, found.stores, found.next_cursor !== null);
    } catch (error) {
      if (!mine.signal.aborted) {
        close();
        app.troubled(error);
      }
    }
  }

  /**
   * @param {string} prefix
   * @param {string[]} found
   * @param {boolean} more
   */
  function open(prefix, found, more) {
    stores = found;
    active = -1;
    list.replaceChildren(
      ...stores.map((store, at) =>
        h("li", { id: `option-${at}`, role: "option", testid: "store-option", "aria-selected": "false", data: { store }, onpointerdown: (/** @type {Event} */ event) => (event.preventDefault(), take(store)) },
          h("mark", {}, store.startsWith(prefix) ? prefix : ""), store.startsWith(prefix) ? store.slice(prefix.length) : store),
      ),
    );
    list.hidden = stores.length === 0;
    set(list, { "aria-label": app.t("search.label") });
    note.textContent = stores.length === 0 ? app.t("search.none", { prefix }) : more ? app.t("search.more") : app.t("search.count", { count: app.formats.count(stores.length) }, stores.length);
    set(note, { data: { empty: String(stores.length === 0) } });
    note.hidden = false;
    panel.hidden = false;
    set(input, { "aria-expanded": String(stores.length > 0), "aria-activedescendant": null });
  }

  function close() {
    asking?.abort();
    clearTimeout(timer);
    panel.hidden = true;
    active = -1;
    set(input, { "aria-expanded": "false", "aria-activedescendant": null });
  }

  /** @param {string} store */
  function take(store) {
    input.value = "";
    close();
    choose(store);
  }

  /** @param {number} to */
  function move(to) {
    active = (to + stores.length) % stores.length;
    [...list.children].forEach((option, at) => set(option, { "aria-selected": String(at === active) }));
    set(input, { "aria-activedescendant": `option-${active}` });
    list.children[active].scrollIntoView({ block: "nearest" });
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = window.setTimeout(ask, TYPING_MS);
  });
  input.addEventListener("focus", ask);
  input.addEventListener("click", () => panel.hidden && ask());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    // A key that composes a Korean syllable is none of ours.
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (panel.hidden) ask();
      else if (stores.length > 0) move(event.key === "ArrowDown" ? active + 1 : active < 0 ? stores.length - 1 : active - 1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      // Whoever types an id and Enter wants this id, also before the list has come.
      const store = active >= 0 ? stores[active] : input.value.trim();
      if (store) take(store);
    } else if (event.key === "Escape") {
      if (panel.hidden) input.value = "";
      close();
    }
  });

  function words() {
    label.textContent = app.t("search.label");
    set(input, { placeholder: app.t("search.placeholder") });
  }

  return { element, words };
}
