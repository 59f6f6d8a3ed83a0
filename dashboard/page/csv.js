// RFC 4180 text that spreadsheets read as it was meant: UTF-8 with a byte order mark, and no cell that they take for a formula.

const NUMBER = /^[+-]?\d+(\.\d+)?$/;

/**
 * @param {(string | number | null | undefined)[][]} rows the first is the header
 */
export function csv(rows) {
  return `\uFEFF${rows.map((row) => row.map(cell).join(",") + "\r\n").join("")}`;
}

/** @param {string | number | null | undefined} value */
function cell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  // A store may be called "=HYPERLINK(…)"; a negative sum is a number and stays one.
  if (/^[=+\-@\t\r]/.test(text) && !NUMBER.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * Has the browser save it.
 * @param {string} name
 * @param {string} text
 */
export function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  // The download has its own hold on the data by then.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * A file's name without what file systems dislike.
 * @param {string} text
 */
export function fileName(text) {
  return text.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80) || "_";
}
