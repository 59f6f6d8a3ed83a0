// Which of the two languages, and its words with their places filled.

import { ENGLISH, KOREAN } from "./messages.js";

/** @typedef {"en" | "ko"} Language */
/** @typedef {keyof typeof ENGLISH} Key */

const MESSAGES = { en: ENGLISH, ko: KOREAN };

/**
 * The language that was chosen, or else the first of the browser's that we have, or English.
 * @param {string | null} chosen
 * @param {readonly string[]} preferred
 * @returns {Language}
 */
export function languageOf(chosen, preferred) {
  for (const one of [chosen ?? "", ...preferred]) {
    if (/^ko\b/i.test(one)) return "ko";
    if (/^en\b/i.test(one)) return "en";
  }
  return "en";
}

/**
 * A message with its places filled; of those with two forms, the one for `count`.
 * @param {Language} language
 * @param {Key} key
 * @param {Record<string, string | number>} [places]
 * @param {number} [count] chooses the form
 */
export function translate(language, key, places = {}, count) {
  const message = MESSAGES[language][key];
  const form = typeof message === "string" ? message : message[count === 1 ? "one" : "other"];
  return form.replace(/\{(\w+)\}/g, (whole, name) => String(places[name] ?? whole));
}
