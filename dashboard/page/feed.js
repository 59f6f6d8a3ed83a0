// Keeps a view's numbers as new as the server's: a summary by stream, and what belongs to it loaded whenever the as-of moves.
//
//   GET summary ─► stream ─► update(summary) ─► load(summary), at most every 2 s
//                    └ ended, refused, silent: again with backoff; hidden tab: not at all

import { Problem } from "./api.js";
import { backoff, follow } from "./stream.js";

/** @typedef {import("./app.js").App} App */

const LOAD_EVERY_MS = 2_000;

/** @template {{ as_of: string }} Summary */
export class Feed {
  /** @type {AbortController | null} */
  #running = null;
  /** @type {Summary | null} */
  #newest = null;
  #loaded = "";
  #loading = false;

  /**
   * @param {App} app
   * @param {object} of
   * @param {string} of.summary its path
   * @param {string} of.stream the path of the stream that sends it
   * @param {(summary: Summary) => void} of.update
   * @param {(summary: Summary, signal: AbortSignal) => Promise<void>} of.load
   */
  constructor(app, of) {
    this.#app = app;
    this.#of = of;
    this.#turn = () => (document.hidden ? this.#pause() : this.#go());
  }

  #app;
  #of;
  #turn;

  start() {
    document.addEventListener("visibilitychange", this.#turn);
    if (document.hidden) this.#pause();
    else this.#go();
  }

  stop() {
    document.removeEventListener("visibilitychange", this.#turn);
    this.#running?.abort();
    this.#running = null;
  }

  /** Loads again, as something else is wanted now. */
  again() {
    this.#loaded = "";
    if (this.#newest && this.#running) this.#load(this.#running.signal);
  }

  #pause() {
    this.#running?.abort();
    this.#running = null;
    this.#app.live("paused");
  }

  #go() {
    this.#running?.abort();
    this.#running = new AbortController();
    this.#begin(this.#running.signal);
  }

  /** @param {AbortSignal} signal */
  async #begin(signal) {
    const app = this.#app;
    app.live("connecting");
    if (!(await this.#insist(signal, async () => this.#heard(await app.api.get(this.#of.summary, signal), signal)))) return;
    const stop = follow(app.api, this.#of.stream, {
      message: ({ data }) => this.#heard(JSON.parse(data), signal),
      state: (state, answered) => !signal.aborted && app.live(state, answered),
      problem: (problem) => {
        if (signal.aborted) return false;
        app.troubled(problem);
        // Where there is no stream to be had, numbers come by asking.
        if (problem.passes && problem.code !== "unreachable") this.#ask(signal);
        return problem.passes;
      },
    });
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
  }

  /** @param {AbortSignal} signal */
  async #ask(signal) {
    try {
      this.#heard(await this.#app.api.get(this.#of.summary, signal), signal, true);
    } catch {
      // The stream's next attempt says what is the matter.
    }
  }

  /**
   * @param {Summary} summary
   * @param {AbortSignal} signal
   * @param {boolean} [asked] while there is no stream, the problem stays in sight
   */
  #heard(summary, signal, asked = false) {
    if (signal.aborted) return;
    if (asked) this.#app.live("off");
    else this.#app.calm();
    this.#newest = summary;
    this.#of.update(summary);
    this.#load(signal);
  }

  /** @param {AbortSignal} signal */
  async #load(signal) {
    if (this.#loading) return;
    this.#loading = true;
    while (this.#newest && this.#newest.as_of !== this.#loaded && !signal.aborted) {
      const summary = this.#newest;
      this.#loaded = summary.as_of;
      if (!(await this.#insist(signal, () => this.#of.load(summary, signal)))) break;
      await pause(LOAD_EVERY_MS, signal);
    }
    this.#loading = false;
    // Paused and gone on meanwhile: what has come since is loaded for whoever runs now.
    if (signal.aborted) {
      this.#loaded = "";
      if (this.#running && this.#running.signal !== signal) this.#load(this.#running.signal);
    }
  }

  /**
   * Tries until it succeeds, for as long as there is hope.
   * @param {AbortSignal} signal
   * @param {() => Promise<void>} what
   */
  async #insist(signal, what) {
    for (let failures = 1; !signal.aborted; failures += 1) {
      try {
        await what();
        return true;
      } catch (error) {
        if (signal.aborted) return false;
        this.#app.troubled(error);
        if (!(error instanceof Problem) || !error.passes) return false;
        if (error.code === "unreachable") this.#app.live("reconnecting");
        await pause(Math.max(backoff(failures, Math.random()), error.retryAfter * 1_000), signal);
      }
    }
    return false;
  }
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve(null)), { once: true });
  });
}
