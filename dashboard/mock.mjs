// For work on the page: serves the sources as they are, beside an API with made-up numbers (docs/api.md) that move.
//
//   node mock.mjs [--port 8099] [--keys] [--late] [--finished] [--empty] [--busy]
//
// Keys: "all" sees all stores, "some" sees 1042 and 7, "one" sees 1042. Nothing here is part of the program.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const flags = process.argv.slice(2);
const has = (name) => flags.includes(`--${name}`);
const port = Number(flags[flags.indexOf("--port") + 1] || 8099);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const LENGTH = 1_800_000;
const GRACE = 120_000;
const STORES = ["7", "42", "100", "1001", "1042", "1043", "2026", "a/b & co", "한글스토어", '=HYPERLINK("x")', ...Array.from({ length: 300 }, (_, at) => `s${at + 1}`)];
const KINDS = [["page_view", 420], ["product_view", 210], ["search", 90], ["add_to_cart", 48], ["checkout", 22], ["purchase", 12]];
const KEYS = { all: null, some: ["1042", "7"], one: ["1042"] };

const iso = (instant) => new Date(instant).toISOString().replace(".000Z", "Z");
const asOf = () => Math.floor((Date.now() - (has("late") ? 3_600_000 : 1_000)) / 1_000) * 1_000;
const dice = (...seed) => {
  let state = 2166136261;
  for (const letter of seed.join("|")) state = Math.imul(state ^ letter.charCodeAt(0), 16777619);
  state = Math.imul(state ^ (state >>> 15), 2246822507);
  return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
};
const closed = (start) => start + LENGTH + GRACE <= asOf();

function windowOf(store, start) {
  const part = Math.min(1, (asOf() - start) / LENGTH);
  const hour = new Date(start + 9 * 3_600_000).getUTCHours();
  const busy = (0.15 + Math.max(0, Math.sin(((hour - 6) / 24) * 2 * Math.PI)) + 0.4 * dice(store, start)) * part;
  if (dice(store, start, "quiet") < 0.06) return null;
  const revision = closed(start) && dice(store, start, "revision") < 0.09 ? 1 + Math.floor(dice(store, start, "times") * 2) : 0;
  const count = Math.floor(busy * 40);
  const payments = [{ currency: "KRW", sum: `${Math.floor(busy * 1_830_400) * 100}.00`, count, revision }];
  if (dice(store, start, "dollars") < 0.5) payments.push({ currency: "USD", sum: `${Math.floor(busy * 900)}.${String(Math.floor(dice(store, start, "cents") * 100)).padStart(2, "0")}`, count: Math.ceil(count / 9), revision: 0 });
  return {
    start: iso(start), end: iso(start + LENGTH), closed: closed(start), revision, payments,
    sales: { items_sold: Math.floor(busy * 90), products_sold: Math.floor(busy * 31), revision: 0 },
    clicks: KINDS.map(([kind, usual]) => ({ kind, count: Math.floor(usual * busy * (0.7 + 0.6 * dice(store, start, kind))), products_clicked: kind.includes("product") ? Math.floor(busy * 80) : 0, revision: 0 })),
  };
}

function summed(windows) {
  const payments = {};
  const clicks = {};
  let items = 0;
  for (const window of windows) {
    for (const { currency, sum, count } of window.payments) {
      const [whole, cents] = sum.split(".");
      payments[currency] ??= { units: 0n, count: 0 };
      payments[currency].units += BigInt(whole + cents);
      payments[currency].count += count;
    }
    for (const { kind, count } of window.clicks) clicks[kind] = (clicks[kind] ?? 0) + count;
    items += window.sales.items_sold;
  }
  const money = (units) => `${units / 100n}.${String(units % 100n).padStart(2, "0")}`;
  return {
    payments: Object.entries(payments).sort().map(([currency, { units, count }]) => ({ currency, sum: money(units), count })),
    items_sold: items,
    clicks: Object.entries(clicks).sort().map(([kind, count]) => ({ kind, count })),
  };
}

const between = (store, from, to = asOf()) => {
  const all = [];
  for (let start = Math.ceil(from / LENGTH) * LENGTH; start < to; start += LENGTH) all.push(windowOf(store, start));
  return all.filter(Boolean);
};

function fresh() {
  const until = Math.floor((asOf() - GRACE) / LENGTH) * LENGTH;
  return {
    state: has("finished") ? "finished" : has("late") ? "late" : "live", as_of: iso(asOf()), age_seconds: 1.2,
    exact_until: iso(until), next_until: has("finished") ? null : iso(until + LENGTH), next_due: has("finished") ? null : iso(until + LENGTH + GRACE),
    sources: [{ topic: "mall.payments", clock: iso(asOf()), age_seconds: 0.4, lag_records: 0 }],
  };
}

function store(id) {
  const seoul = asOf() + 9 * 3_600_000;
  const from = Math.floor(seoul / 86_400_000) * 86_400_000 - 9 * 3_600_000;
  const today = between(id, from);
  const newest = Math.floor((asOf() - GRACE) / LENGTH) * LENGTH - LENGTH;
  return {
    store: id, as_of: iso(asOf()), product_count: Math.floor(dice(id) * 400),
    today: { date: iso(seoul).slice(0, 10), timezone: "Asia/Seoul", from: iso(from), complete: true, closed: summed(today.filter((one) => one.closed)), open: summed(today.filter((one) => !one.closed)) },
    newest_closed_window: windowOf(id, newest) ?? { start: iso(newest), end: iso(newest + LENGTH), closed: true, revision: 0, payments: [], sales: null, clicks: [] },
    fresh: fresh(),
  };
}

const status = () => ({
  job: "mall", generation: 3, served_from: "memory", as_of: iso(asOf()), frontier: iso(asOf() + 1_000), frontier_age_seconds: 0.9,
  window_seconds: LENGTH / 1_000, grace_seconds: GRACE / 1_000, retention_seconds: 172_800, timezone: "Asia/Seoul", scale: 2, fresh: fresh(),
  checkpoint: { committed: iso(asOf() - 4_000), age_seconds: 4.2, total: 120 },
  topics: ["mall.payments", "mall.order_items", "mall.products", "mall.clicks"].map((topic, at) => ({ topic, clock: iso(asOf()), age_seconds: 0.4, lag_records: at * 12, records: 120_000 * (at + 1), dead_letters: at === 0 ? 1 : 0 })),
  dead_letters: [{ reason: "bad_time", count: 1 }], late_contributions: 0, corrections: 1_212, stale_changes: 0,
  processes: [{ process: 0, state: "running", reported: iso(asOf()), age_seconds: 1 }],
});

function totals(from) {
  const some = STORES.slice(0, 12);
  const all = [];
  for (let start = Math.ceil(from / LENGTH) * LENGTH; start < asOf(); start += LENGTH) {
    const windows = some.map((id) => windowOf(id, start)).filter(Boolean);
    if (windows.length > 0) all.push({ start: iso(start), end: iso(start + LENGTH), closed: closed(start), stores: windows.length * 25, ...summed(windows) });
  }
  return all;
}

function top(measure, limit) {
  const start = Math.floor((asOf() - GRACE) / LENGTH) * LENGTH - LENGTH;
  const [what, second] = measure.split(":");
  const value = (window) => what === "items_sold" ? String(window.sales.items_sold) : String((what === "clicks" ? window.clicks.find((one) => one.kind === second)?.count : window.payments.find((one) => one.currency === second)?.sum) ?? "");
  const ranked = STORES.map((id) => [id, windowOf(id, start)]).filter(([, window]) => window && value(window)).map(([id, window]) => [id, value(window)]);
  ranked.sort(([, a], [, b]) => Number(b) - Number(a));
  return { as_of: iso(asOf()), window: { start: iso(start), end: iso(start + LENGTH), closed: true }, measure, stores: ranked.slice(0, limit).map(([id, one], at) => ({ rank: at + 1, store: id, value: one })) };
}

const TITLES = { 401: "a key is needed", 403: "not allowed", 404: "there is no such store", 429: "too many requests with this key", 503: "nothing has been shown yet" };
class Refused extends Error {
  constructor(code, statusCode, headers = {}) {
    super(code);
    Object.assign(this, { code, status: statusCode, headers });
  }
}

function answer(url, allowed) {
  const { pathname, searchParams } = url;
  if (has("empty")) throw new Refused("no_view", 503, { "Retry-After": "2" });
  const from = Date.parse(searchParams.get("from") ?? "") || asOf() - 172_800_000;
  const [, id, rest] = /^\/v1\/stores\/([^/]+)(\/windows)?$/.exec(pathname) ?? [];
  if (id) {
    const name = decodeURIComponent(id);
    if (allowed && !allowed.includes(name)) throw new Refused("store_not_allowed", 403);
    if (!STORES.includes(name)) throw new Refused("unknown_store", 404);
    return rest ? { store: name, as_of: iso(asOf()), windows: between(name, from), next_cursor: null } : store(name);
  }
  if (pathname === "/v1/stores") {
    const limit = Number(searchParams.get("limit") ?? 100);
    const found = (allowed ?? STORES).filter((one) => one.startsWith(searchParams.get("prefix") ?? "")).sort();
    return { as_of: iso(asOf()), stores: found.slice(0, limit), next_cursor: found.length > limit ? found[limit - 1] : null };
  }
  if (allowed) throw new Refused("all_stores_not_allowed", 403);
  if (pathname === "/v1/status") return status();
  if (pathname === "/v1/totals") return { as_of: iso(asOf()), windows: totals(from), next_cursor: null };
  if (pathname === "/v1/top") return top(searchParams.get("measure"), Number(searchParams.get("limit") ?? 10));
  throw new Refused("not_found", 404);
}

function stream(url, allowed, response) {
  const one = url.searchParams.get("store");
  const send = () => response.write(`event: ${one ? "store" : "status"}\nid: ${asOf()}\ndata: ${JSON.stringify(answer(new URL(one ? `/v1/stores/${encodeURIComponent(one)}` : "/v1/status", url), allowed))}\n\n`);
  send();
  const timer = setInterval(send, 1_000);
  response.on("close", () => clearInterval(timer));
}

const TYPES = { js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
async function asset(name) {
  if (name === "uplot.js") return `${await readFile(here("node_modules/uplot/dist/uPlot.iife.min.js"), "utf8")}\nexport default uPlot;\n`;
  if (name === "uplot.css") return readFile(here("node_modules/uplot/dist/uPlot.min.css"));
  return readFile(here(`page/${name}`));
}

let requests = 0;
createServer(async (request, response) => {
  const url = new URL(request.url, `http://127.0.0.1:${port}`);
  const headers = { "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" };
  try {
    if (url.pathname === "/") {
      const page = (await readFile(here("page/index.html"), "utf8")).replaceAll("/VERSION/", "/dev/").replace("MODULES", "");
      return response.writeHead(200, { ...headers, "Content-Type": "text/html; charset=utf-8" }).end(page);
    }
    if (url.pathname.startsWith("/assets/dev/")) {
      const name = url.pathname.slice("/assets/dev/".length);
      const body = await asset(name);
      return response.writeHead(200, { "Content-Type": `${TYPES[name.split(".").pop()]}; charset=utf-8`, "Cache-Control": "no-store" }).end(body);
    }
    let allowed = null;
    if (has("keys")) {
      const key = request.headers.authorization?.replace("Bearer ", "");
      if (!key) throw new Refused("no_key", 401);
      if (!(key in KEYS)) throw new Refused("unknown_key", 401);
      allowed = KEYS[key];
    }
    if (url.pathname === "/v1/stream") {
      answer(new URL(url.searchParams.get("store") ? `/v1/stores/${encodeURIComponent(url.searchParams.get("store"))}` : "/v1/status", url), allowed);
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      return stream(url, allowed, response);
    }
    requests += 1;
    if (has("busy") && requests % 7 === 0) throw new Refused("rate_limited", 429, { "Retry-After": "8" });
    const tag = `W/"3-${asOf()}"`;
    const body = answer(url, allowed);
    if (request.headers["if-none-match"] === tag) return response.writeHead(304, { ETag: tag }).end();
    response.writeHead(200, { "Content-Type": "application/json", ETag: tag }).end(JSON.stringify(body));
  } catch (error) {
    if (!(error instanceof Refused)) return response.writeHead(404).end(String(error));
    response.writeHead(error.status, { "Content-Type": "application/problem+json", ...error.headers }).end(JSON.stringify({ type: "about:blank", title: TITLES[error.status], status: error.status, detail: error.code, code: error.code }));
  }
}).listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/`));
