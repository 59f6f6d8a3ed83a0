// The parts of the page that know no browser.

import assert from "node:assert/strict";
import { test } from "node:test";

import { csv, fileName } from "../page/csv.js";
import { fractionDigits, isZero, sum } from "../page/decimal.js";
import { Formats, dayStart, knownZone, localeOf } from "../page/format.js";
import { stateOf, wordsOf } from "../page/freshness.js";
import { funnel } from "../page/funnel.js";
import { languageOf, translate } from "../page/i18n.js";
import { ENGLISH, KOREAN } from "../page/messages.js";
import { MessageParser, backoff } from "../page/stream.js";
import { SHOWN, columns, grid, placed, total } from "../page/windows.js";

test("sums of money are exact far beyond floats", () => {
  assert.equal(sum([]), "0");
  assert.equal(sum(["0.10", "0.20"]), "0.30");
  assert.equal(sum(["99999999999999999999999999.99", "0.01"]), "100000000000000000000000000.00");
  assert.equal(sum(["-0.05", "0.02"]), "-0.03");
  assert.equal(sum(["1", "0.005"]), "1.005");
  assert.throws(() => sum(["1e3"]), RangeError);
  assert.deepEqual([isZero("-0.00"), isZero("0.01"), fractionDigits("12.500"), fractionDigits("12.00")], [true, false, 1, 0]);
});

test("money is written exactly, as the reader's locale writes it", () => {
  const [korean, english] = [new Formats("ko-KR"), new Formats("en-US")];
  assert.equal(korean.money("12000.00", "KRW"), "₩12,000");
  assert.equal(english.money("99999999999999999999999999.99", "USD"), "$99,999,999,999,999,999,999,999,999.99");
  assert.equal(english.money("-3.10", "USD"), "-$3.10");
  assert.equal(english.money("0.50", "KRW"), "₩0.5", "digits that a currency does not have are kept where they say something");
  assert.equal(new Formats("de-DE").money("1234.5", "EUR"), "1.234,50\u00a0€");
  assert.equal(english.money("1234.50", "points"), "1,234.5 points", "what is no currency code is a unit");
  assert.equal(english.count("12345678901234567890"), "12,345,678,901,234,567,890");
});

test("times are the job's, and a day begins when its date does", () => {
  const seoul = new Formats("en-GB", "Asia/Seoul");
  assert.equal(seoul.time("2026-11-25T05:30:00Z", "2026-11-25T05:41:07Z"), "14:30");
  assert.match(seoul.time("2026-11-24T05:30:00Z", "2026-11-25T05:41:07Z"), /24 Nov.* 14:30$/);
  assert.equal(seoul.time("2026-11-24T15:00:00Z"), "00:00");
  const start = (/** @type {string} */ at, /** @type {string} */ zone) => new Date(dayStart(Date.parse(at), zone)).toISOString();
  assert.equal(start("2026-11-25T05:41:07Z", "Asia/Seoul"), "2026-11-24T15:00:00.000Z");
  assert.equal(start("2026-11-24T15:00:00Z", "Asia/Seoul"), "2026-11-24T15:00:00.000Z");
  assert.equal(start("2026-11-25T05:41:07Z", "UTC"), "2026-11-25T00:00:00.000Z");
  assert.equal(start("2026-11-01T12:00:00Z", "America/New_York"), "2026-11-01T04:00:00.000Z", "the day that has 25 hours");
  assert.equal(start("2018-11-04T12:00:00Z", "America/Sao_Paulo"), "2018-11-04T03:00:00.000Z", "a day without midnight");
  assert.equal(start("2026-11-25T00:30:00Z", "Pacific/Kiritimati"), "2026-11-24T10:00:00.000Z");
  assert.deepEqual([knownZone("Asia/Seoul"), knownZone("Mars/Olympus"), knownZone(null)], ["Asia/Seoul", "UTC", "UTC"]);
});

test("both languages say the same things", () => {
  assert.deepEqual(Object.keys(KOREAN).sort(), Object.keys(ENGLISH).sort());
  const places = (/** @type {string | { one: string, other: string }} */ message) =>
    [...new Set(Object.values(typeof message === "string" ? { message } : message).flatMap((form) => form.match(/\{\w+\}/g) ?? []))].sort();
  for (const [key, english] of Object.entries(ENGLISH)) {
    const korean = KOREAN[/** @type {keyof typeof KOREAN} */ (key)];
    assert.equal(typeof korean, typeof english, key);
    // "Once" needs no number in English.
    if (typeof english === "string") assert.deepEqual(places(korean), places(english), key);
  }
});

test("the language is the chosen one, or the first of the browser's that there is", () => {
  assert.equal(languageOf("ko", ["en-US"]), "ko");
  assert.equal(languageOf(null, ["de-DE", "ko-KR", "en"]), "ko");
  assert.equal(languageOf(null, ["de-DE"]), "en");
  assert.deepEqual([localeOf("en", ["de-DE", "en-GB"]), localeOf("ko", ["en"])], ["en-GB", "ko-KR"]);
  assert.equal(translate("en", "sum.count", { count: "1" }, 1), "1 payment");
  assert.equal(translate("en", "sum.count", { count: "2,000" }, 2000), "2,000 payments");
});

test("saved tables are read as they were meant", () => {
  assert.equal(csv([["a", "b"], ["x,y", 'say "hi"']]), '\uFEFFa,b\r\n"x,y","say ""hi"""\r\n');
  const cells = ['=HYPERLINK("x")', "+1", "-12.50", "-1-1", "@SUM(A1)", "\tx", "한글", null];
  assert.equal(csv([cells]), `\uFEFF"'=HYPERLINK(""x"")",+1,-12.50,'-1-1,'@SUM(A1),'\tx,한글,\r\n`);
  assert.equal(fileName("a/b & 한글"), "a_b_한글");
});

test("messages of a stream come however they are cut", () => {
  const text = ': here\r\nevent: store\r\nid: 7\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata: plain\n\nevent: none\n\n';
  const expected = [{ event: "store", data: '{"a":\n1}', id: "7" }, { event: "message", data: "plain", id: "7" }];
  for (let size = 1; size <= text.length; size += 1) {
    const parser = new MessageParser();
    const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, at) => text.slice(at * size, (at + 1) * size));
    assert.deepEqual(pieces.flatMap((piece) => parser.push(piece)), expected, `in pieces of ${size}`);
  }
});

test("a server that cannot stream says when to come back", () => {
  const parser = new MessageParser();
  assert.equal(parser.retry, 0);
  assert.deepEqual(parser.push("retry: 5000\nevent: status\ndata: {}\n\n"), [{ event: "status", data: "{}", id: "" }]);
  assert.equal(parser.retry, 5000);
  parser.push("retry: soon\n");
  assert.equal(parser.retry, 5000);
});

test("attempts are further and further apart, up to half a minute", () => {
  assert.deepEqual([1, 2, 3, 20].map((failures) => backoff(failures, 1)), [500, 1000, 2000, 30_000]);
  assert.equal(backoff(1, 0), 250);
});

test("the badge turns when the server says so, when a window is overdue, and when nobody answers", () => {
  /** @type {import("../page/types.d.ts").Fresh} */
  const fresh = { state: "live", as_of: "2026-11-25T05:41:07Z", age_seconds: 1, exact_until: "2026-11-25T05:30:00Z", next_until: "2026-11-25T06:00:00Z", next_due: "2026-11-25T06:02:00Z", sources: [] };
  const due = Date.parse("2026-11-25T06:02:00Z");
  assert.equal(stateOf(null, due, null), "waiting");
  assert.equal(stateOf(fresh, due + 60_000, null), "live");
  assert.equal(stateOf(fresh, due + 60_001, null), "late");
  assert.equal(stateOf({ ...fresh, state: "late" }, due, null), "late");
  assert.equal(stateOf({ ...fresh, state: "finished" }, due + 1e9, null), "finished");
  assert.equal(stateOf(fresh, due, 1), "unreachable");
  const words = (/** @type {"en" | "ko"} */ language, /** @type {any} */ state) =>
    wordsOf(state, fresh, null, new Formats(language, "Asia/Seoul"), (key, places) => translate(language, key, places)).text;
  assert.equal(words("en", "live"), "Exact up to 14:30, next at 15:00");
  assert.equal(words("ko", "live"), "14:30까지 정확, 다음은 15:00");
  assert.equal(words("en", "late"), "Late: exact up to 14:30, and 15:00 is overdue");
});

/**
 * @param {string} start
 * @param {Partial<import("../page/types.d.ts").Window>} more
 * @returns {import("../page/types.d.ts").Window}
 */
const window = (start, more) => ({ start, end: start, closed: true, revision: 0, payments: [], sales: null, clicks: [], ...more });

test("windows have their places, and columns their values", () => {
  const asOf = Date.parse("2026-11-25T06:00:00Z");
  const starts = grid(asOf, 1_800_000);
  assert.deepEqual([starts.length, starts[SHOWN - 1]], [SHOWN, Date.parse("2026-11-25T05:30:00Z")], "nothing of the window from the as-of on is known");
  assert.equal(grid(asOf + 1, 1_800_000)[SHOWN - 1], asOf);
  const windows = [
    window("2026-11-25T05:00:00Z", { payments: [{ currency: "USD", sum: "0.10", count: 1 }, { currency: "KRW", sum: "100.00", count: 3 }], clicks: [{ kind: "view", count: 2, products_clicked: 1 }] }),
    window("2026-11-25T05:30:00Z", { payments: [{ currency: "USD", sum: "0.20", count: 1 }], sales: { items_sold: 4, products_sold: 2, revision: 0 } }),
  ];
  assert.deepEqual(placed(starts, windows).slice(-3).map((one) => one?.start ?? null), [null, windows[0].start, windows[1].start]);
  assert.deepEqual(columns(windows).map((column) => [column.measure, column.value(windows[1])]), [
    ["payment_sum:KRW", null], ["payment_count:KRW", null], ["payment_sum:USD", "0.20"], ["payment_count:USD", 1],
    ["items_sold", 4], ["products_sold", 2], ["clicks:view", null], ["products_clicked:view", null],
  ]);
  assert.deepEqual(total(windows), {
    payments: [{ currency: "KRW", sum: "100.00", count: 3 }, { currency: "USD", sum: "0.30", count: 2 }], items_sold: 4, clicks: [{ kind: "view", count: 2 }],
  });
});

test("the way to a purchase has known steps in their order, or else the most frequent first", () => {
  const mall = [["purchase", 5], ["search", 70], ["page_view", 100], ["add_to_cart", 20], ["product_view", 50], ["checkout", 10]];
  const steps = funnel(mall.map(([kind, count]) => ({ kind: String(kind), count: Number(count) })), 4);
  assert.deepEqual(steps.map(({ kind, share }) => [kind, share]), [
    ["page_view", null], ["product_view", 0.5], ["add_to_cart", 0.4], ["checkout", 0.5], ["purchase", 0.5], [null, 0.8],
  ]);
  assert.deepEqual(funnel([{ kind: "b", count: 1 }, { kind: "a", count: 4 }], 0).map(({ kind }) => kind), ["a", "b", null]);
  assert.deepEqual(funnel([], 3), [{ kind: null, count: 3, share: null }]);
});
