// Numbers, money and instants as the reader writes them; instants in the job's time zone.

import { fractionDigits } from "./decimal.js";

/**
 * The reader's own flavour of a language: `en-GB` rather than `en`, if that is what the browser says.
 * @param {string} language
 * @param {readonly string[]} preferred
 */
export function localeOf(language, preferred) {
  return preferred.find((one) => one === language || one.startsWith(`${language}-`)) ?? (language === "ko" ? "ko-KR" : "en-US");
}

/**
 * The zone, or UTC where the browser does not know it.
 * @param {string | null | undefined} zone
 */
export function knownZone(zone) {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: zone ?? "UTC" }).resolvedOptions().timeZone;
  } catch {
    return "UTC";
  }
}

/**
 * The first instant of an instant's day in a zone, in milliseconds.
 * @param {number} instant milliseconds
 * @param {string} zone
 */
export function dayStart(instant, zone) {
  const day = calendar(zone);
  const date = day.format(instant);
  // Midnight by UTC is within 15 hours of the day's start; the first instant of the date is found by halving. Some days have no midnight.
  const middle = Date.parse(`${date}T12:00:00Z`);
  let before = middle - 48 * 3_600_000;
  let within = instant;
  while (within - before > 1) {
    const between = Math.floor((before + within) / 2);
    if (day.format(between) === date) within = between;
    else before = between;
  }
  return within;
}

/** @param {string} zone */
function calendar(zone) {
  // Swedish dates are ISO dates.
  return new Intl.DateTimeFormat("sv-SE", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" });
}

/** How a reader's locale writes things. */
export class Formats {
  /** @type {Map<string, Intl.NumberFormat>} */
  #numbers = new Map();

  /**
   * @param {string} locale
   * @param {string} [zone] the job's
   */
  constructor(locale, zone = "UTC") {
    this.locale = locale;
    this.zone = knownZone(zone);
    /** @param {Intl.DateTimeFormatOptions} options */
    const dates = (options) => new Intl.DateTimeFormat(locale, { timeZone: this.zone, ...options });
    this.#clock = dates({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    this.#seconds = dates({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
    this.#day = dates({ month: "short", day: "numeric", weekday: "short" });
    this.#short = dates({ month: "numeric", day: "numeric" });
    this.#date = calendar(this.zone);
  }

  #clock;
  #seconds;
  #day;
  #short;
  #date;

  /**
   * A whole or decimal number, exact.
   * @param {number | string} value
   */
  count(value) {
    return this.#number("count", { maximumFractionDigits: 20 }).format(/** @type {any} */ (value));
  }

  /**
   * A share of one.
   * @param {number} share
   */
  percent(share) {
    return this.#number("percent", { style: "percent", maximumFractionDigits: Math.abs(share) < 0.1 ? 1 : 0 }).format(share);
  }

  /**
   * Money, exact: text in, text out. Digits that the currency does not have are left out only where they are zeros.
   * @param {string} text
   * @param {string} currency
   */
  money(text, currency) {
    const digits = fractionDigits(text);
    if (!/^[A-Za-z]{3}$/.test(currency)) {
      return `${this.#number(`plain ${digits}`, { minimumFractionDigits: digits, maximumFractionDigits: 20 }).format(/** @type {any} */ (text))} ${currency}`;
    }
    const usual = this.#number(currency, { style: "currency", currency }).resolvedOptions().maximumFractionDigits ?? 2;
    const most = Math.max(usual, digits);
    const numbers = this.#number(`${currency} ${most}`, { style: "currency", currency, minimumFractionDigits: most, maximumFractionDigits: most });
    return numbers.format(/** @type {any} */ (text));
  }

  /**
   * Few digits, for axes only.
   * @param {number} value
   */
  compact(value) {
    return this.#number("compact", { notation: "compact", maximumFractionDigits: 1 }).format(value);
  }

  /**
   * Hours and minutes; with the day where it is not that of `beside`.
   * @param {number | string} instant
   * @param {number | string} [beside]
   */
  time(instant, beside) {
    const at = new Date(instant);
    const time = this.#clock.format(at);
    return beside === undefined || this.sameDay(at, new Date(beside)) ? time : `${this.#day.format(at)} ${time}`;
  }

  /**
   * Day and time to the second.
   * @param {number | string} instant
   */
  moment(instant) {
    const at = new Date(instant);
    return `${this.#day.format(at)} ${this.#seconds.format(at)}`;
  }

  /**
   * A day.
   * @param {string} instant
   */
  day(instant) {
    return this.#day.format(new Date(instant));
  }

  /**
   * A window, by its first and last minute; without the day where it is that of `beside`.
   * @param {string} start
   * @param {string} end
   * @param {string} [beside]
   */
  window(start, end, beside) {
    const [from, to] = [new Date(start), new Date(end)];
    const times = `${this.#clock.format(from)}–${this.#clock.format(to)}`;
    return beside !== undefined && this.sameDay(from, new Date(beside)) ? times : `${this.#day.format(from)} ${times}`;
  }

  /**
   * Month and day in figures, for axes.
   * @param {number} instant milliseconds
   */
  shortDay(instant) {
    return this.#short.format(instant);
  }

  /**
   * A length of time in its largest fitting unit.
   * @param {number} seconds
   */
  duration(seconds) {
    const size = Math.abs(seconds);
    const [unit, length] = size < 90 ? ["second", 1] : size < 5_400 ? ["minute", 60] : size < 172_800 ? ["hour", 3_600] : ["day", 86_400];
    const value = seconds / Number(length);
    const digits = size < 10 ? 1 : 0;
    return this.#number(`${unit} ${digits}`, { style: "unit", unit: String(unit), unitDisplay: "short", maximumFractionDigits: digits }).format(value);
  }

  /**
   * @param {Date} one
   * @param {Date} other
   */
  sameDay(one, other) {
    return this.#date.format(one) === this.#date.format(other);
  }

  /**
   * @param {string} name
   * @param {Intl.NumberFormatOptions} options
   */
  #number(name, options) {
    let numbers = this.#numbers.get(name);
    if (!numbers) this.#numbers.set(name, (numbers = new Intl.NumberFormat(this.locale, options)));
    return numbers;
  }
}
