// The page: what is shown, in which language, and what is the matter. Views live in `store.js` and `overview.js`.

import { Api, Problem } from "./api.js";
import { fill, h, icon, set } from "./dom.js";
import { Formats, localeOf } from "./format.js";
import { stateOf, wordsOf } from "./freshness.js";
import { languageOf, translate } from "./i18n.js";
import { overview, ownStores } from "./overview.js";
import { search } from "./search.js";
import { storeView } from "./store.js";

/** @typedef {import("./types.d.ts").Fresh} Fresh */
/** @typedef {{ element: HTMLElement, name: string, stop: () => void }} View */
/** @typedef {"connecting" | "live" | "reconnecting" | "paused" | "off"} Live */

const THEMES = /** @type {const} */ (["auto", "light", "dark"]);
const THEME_ICONS = {
  auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M5 19l1.4-1.4M17.6 6.4 19 5",
  dark: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5z",
};
/** A stream that ends in order comes back at once; longer silence is worth a word. */
const SILENCE_MS = 3_000;

/** @param {string} id */
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** What all parts share. */
export class App {
  api = new Api();
  /** @type {View | null} */
  #view = null;
  /** @type {Fresh | null} */
  #fresh = null;
  /** @type {number | null} */
  #silent = null;
  /** @type {Live} */
  #live = "connecting";
  /** @type {Problem | null} */
  #problem = null;
  #again = 0;
  /** @type {string | null} */
  #job = null;
  #limited = false;

  constructor() {
    this.language = languageOf(localStorage.getItem("storeflow.language"), navigator.languages);
    this.formats = new Formats(localeOf(this.language, navigator.languages));
    this.#search = search(this, (store) => this.go(store));
    at("search-place").append(this.#search.element);
    for (const language of /** @type {const} */ (["ko", "en"])) at(`lang-${language}`).addEventListener("click", () => this.#speak(language));
    at("theme").addEventListener("click", () => this.#dress(THEMES[(THEMES.indexOf(this.#theme) + 1) % THEMES.length]));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
    at("key-form").addEventListener("submit", (event) => this.#unlock(event));
    at("key-forget").addEventListener("click", () => {
      this.api.key = null;
      this.#limited = false;
      this.#show();
    });
    // The address's fragment names the store, so the link must not change it.
    /** @type {HTMLElement} */ (document.querySelector(".skip")).addEventListener("click", (event) => {
      event.preventDefault();
      at("view").focus();
    });
    addEventListener("hashchange", () => this.#show(true));
    setInterval(() => this.#tick(), 1_000);
    this.#dress(this.#theme);
    this.#speak(this.language);
  }

  #search;

  /** @type {(key: import("./i18n.js").Key, places?: Record<string, string | number>, count?: number) => string} */
  t = (key, places, count) => translate(this.language, key, places, count);

  /** The address of a store's page. @param {string} store */
  address(store) {
    return `#/stores/${encodeURIComponent(store)}`;
  }

  /**
   * @param {string} store
   * @param {boolean} [instead] of the page before
   */
  go(store, instead = false) {
    if (instead) {
      history.replaceState(null, "", this.address(store));
      this.#show(true);
    } else {
      location.hash = this.address(store);
    }
  }

  /** The job's time zone. @param {string} zone */
  zone(zone) {
    if (this.#zone === zone) return;
    this.#zone = zone;
    this.formats = new Formats(this.formats.locale, zone);
    at("foot-zone").textContent = this.t("foot.zone", { zone: this.formats.zone });
  }

  #zone = "";

  /** How fresh the numbers are. @param {Fresh} fresh */
  fresh(fresh) {
    this.#fresh = fresh;
    this.#tick();
  }

  /** @param {string} job */
  job(job) {
    this.#job = job;
    at("job").textContent = job;
    this.#entitle();
  }

  /**
   * Whether numbers come by themselves.
   * @param {Live} live
   * @param {boolean} [answered] if not, that the server answered nevertheless
   */
  live(live, answered = false) {
    this.#live = live;
    if (live !== "reconnecting" || answered) this.#silent = null;
    else this.#silent ??= this.api.heard || Date.now();
    this.#tick();
  }

  /** All is well again. That requests are limited stays in sight until they are not. */
  calm() {
    if (this.#problem && !this.#problem.wantsKey && Date.now() >= this.#again) this.#say(null);
  }

  /** Something went wrong; says so, in place of the numbers where there can be none. @param {unknown} error */
  troubled(error) {
    const problem = error instanceof Problem ? error : new Problem("internal", String(error));
    if (!(error instanceof Problem)) console.error(error);
    if (problem.code === "all_stores_not_allowed") {
      this.#limited = true;
      this.#show();
      return;
    }
    if (problem.wantsKey || problem.code === "unknown_store" || problem.code === "store_not_allowed") {
      this.#leave();
      this.live("off");
    }
    this.#say(problem);
  }

  /** @param {boolean} [moved] to another page, which is then read out */
  #show(moved = false) {
    this.#leave();
    this.#say(null);
    const store = this.#store();
    const view = store !== null ? storeView(this, store) : this.#limited ? ownStores(this) : overview(this);
    this.#view = view;
    at("view").replaceChildren(view.element);
    at("key-forget").hidden = this.api.key === null;
    this.#entitle();
    this.#introduce();
    if (moved) {
      scrollTo(0, 0);
      view.element.querySelector("h1")?.focus({ preventScroll: true });
    }
  }

  /** The job's name, also where only a store is asked for: with a key it may be somebody else's business. */
  async #introduce() {
    if (this.#job !== null || this.#store() === null || this.api.key !== null) return;
    try {
      this.job((await this.api.get("/v1/status")).job);
    } catch {
      // The store's own answer says what is the matter.
    }
  }

  #leave() {
    this.#view?.stop();
    this.#view = null;
    this.#fresh = null;
    at("view").replaceChildren();
  }

  /** The store that the address names. */
  #store() {
    const [, id] = /^#\/stores\/(.+)$/.exec(location.hash) ?? [];
    if (!id) return null;
    try {
      return decodeURIComponent(id);
    } catch {
      return id;
    }
  }

  #entitle() {
    document.title = this.t("title", { name: this.#store() ?? this.#job ?? "storeflow" });
  }

  /** @param {Problem | null} problem */
  #say(problem) {
    this.#problem = problem;
    this.#again = problem && problem.retryAfter > 0 ? Date.now() + problem.retryAfter * 1_000 : 0;
    const keyed = problem?.wantsKey ?? false;
    const wasKeyed = !at("key-form").hidden;
    at("key-form").hidden = !keyed;
    at("key-why").textContent = problem?.code === "unknown_key" ? this.t("key.refused") : this.t("key.why");
    if (keyed && !wasKeyed) at("key-input").focus();
    const place = at("problem");
    place.hidden = problem === null || keyed;
    if (!problem || keyed) return place.replaceChildren();
    const store = this.#store() ?? "";
    /** @type {Record<string, string[]>} */
    const words = {
      unreachable: [this.t("problem.unreachable")],
      rate_limited: [this.t("problem.rate_limited")],
      unknown_store: [this.t("problem.unknown_store", { store }), this.t("problem.unknown_store.hint")],
      store_not_allowed: [this.t("problem.store_not_allowed", { store }), this.t("problem.store_not_allowed.hint")],
      no_view: [this.t("problem.no_view")],
      view_unavailable: [this.t("problem.view_unavailable")],
      too_many_streams: [this.t("problem.too_many_streams")],
      timeout: [this.t("problem.timeout")],
    };
    const [what, hint] = words[problem.code] ?? [this.t("problem.other", { detail: problem.message })];
    set(place, { data: { code: problem.code, lasting: String(!problem.passes) } });
    fill(place,
      h("p", { class: "what" }, what, " ", problem.code === "rate_limited" ? h("span", { testid: "problem-countdown", "aria-hidden": "true" }) : null),
      hint ? h("p", {}, hint) : null,
      problem.passes ? null : h("p", { class: "ways" }, h("button", { type: "button", class: "button", testid: "problem-retry", onclick: () => this.#show() }, this.t("problem.retry")), h("a", { href: "#/" }, this.t("home"))));
    this.#tick();
  }

  /** @param {Event} event */
  #unlock(event) {
    event.preventDefault();
    const input = /** @type {HTMLInputElement} */ (at("key-input"));
    const key = input.value.trim();
    // A header holds no other characters, and no key has them.
    if (!/^[\x21-\x7e]+$/.test(key)) {
      at("key-why").textContent = this.t("key.refused");
      return;
    }
    input.value = "";
    this.api.key = key;
    this.#limited = false;
    this.#show(true);
  }

  /** What follows the clock: freshness, and waiting for a limit to pass. */
  #tick() {
    const silent = this.#silent !== null && Date.now() - this.#silent > SILENCE_MS ? this.#silent : null;
    const state = stateOf(this.#fresh, this.api.now, silent);
    const { text, detail } = wordsOf(state, this.#fresh, silent, this.formats, this.t);
    const badge = at("freshness");
    // Where there are no numbers, and none will come, nothing is fresh or not.
    at("state").hidden = this.#live === "off" && this.#fresh === null;
    set(badge, { data: { state, "exact-until": this.#fresh?.exact_until, "as-of": this.#fresh?.as_of }, title: detail || null });
    // Setting the same text again would have it read out again.
    if (at("freshness-text").textContent !== text) at("freshness-text").textContent = text;
    const finished = this.#live === "live" && state === "finished";
    const live = this.t(finished ? "live.finished" : `live.${this.#live}`);
    set(at("live"), { data: { state: this.#live, finished } });
    if (at("live").textContent !== live) at("live").textContent = live;
    const countdown = document.querySelector("[data-testid=problem-countdown]");
    const left = Math.ceil((this.#again - Date.now()) / 1_000);
    if (countdown) countdown.textContent = left > 0 ? this.t("problem.rate_limited.wait", { wait: this.formats.duration(left) }) : "";
  }

  /** @returns {"auto" | "light" | "dark"} */
  get #theme() {
    return THEMES.find((theme) => theme === localStorage.getItem("storeflow.theme")) ?? "auto";
  }

  /** @param {"auto" | "light" | "dark"} theme */
  #dress(theme) {
    localStorage.setItem("storeflow.theme", theme);
    document.documentElement.dataset.theme = theme;
    const button = at("theme");
    set(button, { data: { theme }, "aria-label": this.t(`theme.${theme}`), title: this.t(`theme.${theme}`) });
    button.replaceChildren(icon(THEME_ICONS[theme]));
    document.dispatchEvent(new Event("themechange"));
  }

  /** @param {import("./i18n.js").Language} language */
  #speak(language) {
    if (language !== this.language) localStorage.setItem("storeflow.language", language);
    this.language = language;
    this.formats = new Formats(localeOf(language, navigator.languages), this.#zone || "UTC");
    document.documentElement.lang = language;
    for (const place of document.querySelectorAll("[data-text]")) {
      place.textContent = this.t(/** @type {any} */ (place.getAttribute("data-text")));
    }
    for (const one of /** @type {const} */ (["ko", "en"])) set(at(`lang-${one}`), { "aria-pressed": String(one === language) });
    set(at("languages"), { "aria-label": this.t("languages") });
    at("foot-zone").textContent = this.#zone ? this.t("foot.zone", { zone: this.formats.zone }) : "";
    this.#search.words();
    this.#dress(this.#theme);
    this.#show();
  }
}

new App();
