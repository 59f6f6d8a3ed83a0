// The query API: keys, problems, and bodies that are sent again only if something has landed.

/** How many answers are remembered with their tags. */
const REMEMBERED = 32;
const KEY = "storeflow.key";

/** What the API answered instead: RFC 9457's document. `unreachable` is our own code for no answer at all. */
export class Problem extends Error {
  /**
   * @param {string} code
   * @param {string} detail
   * @param {number} [retryAfter] seconds
   */
  constructor(code, detail, retryAfter = 0) {
    super(detail);
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether another key may help. */
  get wantsKey() {
    return this.code === "no_key" || this.code === "unknown_key";
  }

  /** Whether it may go away by waiting. */
  get passes() {
    return ["unreachable", "rate_limited", "view_unavailable", "no_view", "timeout", "too_many_streams", "internal"].includes(this.code);
  }
}

/** An API at the address that the page came from: `/`, or below what a proxy puts in front. */
export class Api {
  /** @type {Map<string, { tag: string, data: any }>} */
  #answers = new Map();
  #ahead = 0;

  /** When the server last said anything, by this machine's clock; 0 is never. */
  heard = 0;

  /** The key in use, kept as long as this tab is open. @returns {string | null} */
  get key() {
    return sessionStorage.getItem(KEY);
  }

  set key(key) {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
    this.#answers.clear();
  }

  /** The time by the server's clock, milliseconds. */
  get now() {
    return Date.now() + this.#ahead;
  }

  /**
   * What the API answers. An answer that is still good is the same object as before.
   * @param {string} path
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async get(path, signal) {
    const known = this.#answers.get(path);
    const response = await this.#fetch(path, signal, known ? { "If-None-Match": known.tag } : {});
    if (response.status === 304 && known) return known.data;
    const data = await response.json().catch((error) => {
      throw signal?.aborted ? error : new Problem("unreachable", String(error));
    });
    const tag = response.headers.get("ETag");
    this.#answers.delete(path);
    if (tag) this.#answers.set(path, { tag, data });
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= REMEMBERED) break;
      this.#answers.delete(oldest);
    }
    return data;
  }

  /**
   * All pages of a list of windows, up to some thousands.
   * @param {string} path with parameters
   * @param {AbortSignal} [signal]
   * @returns {Promise<import("./types.d.ts").WindowList>}
   */
  async windows(path, signal) {
    let list = await this.get(path, signal);
    for (let pages = 1; list.next_cursor !== null && pages < 4; pages += 1) {
      const more = await this.get(`${path}&cursor=${encodeURIComponent(list.next_cursor)}`, signal);
      list = { ...more, windows: [...list.windows, ...more.windows] };
    }
    return list;
  }

  /**
   * The bytes of a stream.
   * @param {string} path
   * @param {AbortSignal} signal
   * @returns {Promise<ReadableStream<BufferSource>>}
   */
  async open(path, signal) {
    const response = await this.#fetch(path, signal, { Accept: "text/event-stream" });
    if (!response.body) throw new Problem("unreachable", "no body");
    return /** @type {any} */ (response.body);
  }

  /**
   * @param {string} path
   * @param {AbortSignal | undefined} signal
   * @param {Record<string, string>} headers
   */
  async #fetch(path, signal, headers) {
    const key = this.key;
    if (key) headers.Authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(new URL(path.slice(1), document.baseURI), { signal, headers, cache: "no-store", credentials: "same-origin" });
    } catch (error) {
      throw signal?.aborted ? error : new Problem("unreachable", String(error));
    }
    this.heard = Date.now();
    const date = Date.parse(response.headers.get("Date") ?? "");
    // The header has whole seconds, so less than two say nothing.
    if (!Number.isNaN(date)) this.#ahead = Math.abs(date - Date.now()) < 2_000 ? 0 : date - Date.now();
    if (response.ok || response.status === 304) return response;
    throw await problem(response);
  }
}

/** @param {Response} response */
async function problem(response) {
  const after = Number(response.headers.get("Retry-After") ?? 0) || 0;
  try {
    const { code, detail } = await response.json();
    return new Problem(String(code), String(detail), after);
  } catch {
    // Something between us and storeflow answered.
    return new Problem(response.status >= 500 ? "unreachable" : "not_found", `HTTP ${response.status}`, after);
  }
}
