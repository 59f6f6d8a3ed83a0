// Server-sent events by fetch, since EventSource cannot send a key; and going on after whatever ends them.

import { Problem } from "./api.js";

/** @typedef {import("./api.js").Api} Api */
/** @typedef {{ event: string, data: string, id: string }} Message */

/** Nothing heard for so long (the server says something every 15 s) means that nobody is there. */
const SILENCE_MS = 40_000;

/** Text in pieces, to messages (lines end with CRLF, LF or CR; a blank line ends a message). */
export class MessageParser {
  #rest = "";
  #event = "";
  /** @type {string[]} */
  #data = [];
  #id = "";
  /** When the server wants to be asked again once it has ended the stream, milliseconds; 0 if it does not say. */
  retry = 0;

  /**
   * @param {string} text
   * @returns {Message[]} those that it completes
   */
  push(text) {
    /** @type {Message[]} */
    const done = [];
    this.#rest += text;
    for (;;) {
      const end = /\r\n|\n|\r/.exec(this.#rest);
      // A CR at the very end may be the first half of a CRLF.
      if (!end || (end[0] === "\r" && end.index === this.#rest.length - 1)) return done;
      const line = this.#rest.slice(0, end.index);
      this.#rest = this.#rest.slice(end.index + end[0].length);
      if (line === "") {
        if (this.#data.length > 0) done.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
        this.#event = "";
        this.#data = [];
      } else if (!line.startsWith(":")) {
        const [, field, value] = /** @type {RegExpExecArray} */ (/^([^:]*)(?:: ?(.*))?$/s.exec(line));
        if (field === "event") this.#event = value ?? "";
        else if (field === "data") this.#data.push(value ?? "");
        else if (field === "id") this.#id = value ?? "";
        else if (field === "retry" && /^\d+$/.test(value ?? "")) this.retry = Number(value);
      }
    }
  }
}

/**
 * How long to wait before trying again: twice as long each time up to half a minute, and never all readers at once.
 * @param {number} failures how many there were, one at least
 * @param {number} random from 0 to 1
 * @returns {number} milliseconds
 */
export function backoff(failures, random) {
  return Math.min(30_000, 500 * 2 ** (failures - 1)) * (0.5 + random / 2);
}

/**
 * Reads a stream until told to stop, connecting again as often as it takes.
 * @param {Api} api
 * @param {string} path
 * @param {object} told
 * @param {(message: Message) => void} told.message
 * @param {(state: "live" | "reconnecting", answered: boolean) => void} told.state `answered`: the server is there, and refuses
 * @param {(problem: Problem) => boolean} told.problem what the server said instead; whether it is worth going on
 * @returns {() => void} stops it
 */
export function follow(api, path, told) {
  const stopped = new AbortController();
  let failures = 0;

  async function once() {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    const signal = AbortSignal.any([stopped.signal, silence.signal]);
    try {
      const body = await api.open(path, signal);
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new MessageParser();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return parser.retry;
        api.heard = Date.now();
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        for (const message of parser.push(value)) {
          failures = 0;
          told.state("live", true);
          told.message(message);
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async function again() {
    while (!stopped.signal.aborted) {
      /** @type {unknown} */
      let why;
      let retry = 0;
      try {
        retry = await once();
      } catch (error) {
        why = error;
      }
      if (stopped.signal.aborted) return;
      if (why instanceof Problem && !told.problem(why)) return;
      let wait = retry;
      // A server that cannot stream says one thing and when to come back: nothing is wrong then.
      if (retry === 0) {
        failures += 1;
        told.state("reconnecting", why instanceof Problem && why.code !== "unreachable");
        wait = Math.max(backoff(failures, Math.random()), why instanceof Problem ? why.retryAfter * 1_000 : 0);
      }
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, wait);
        stopped.signal.addEventListener("abort", () => (clearTimeout(timer), resolve(null)), { once: true });
      });
    }
  }

  again();
  return () => stopped.abort();
}
