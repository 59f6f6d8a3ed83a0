// Exact decimal numbers as text. Money is never a float here: what is added up is added up in whole units (BigInt).

const DECIMAL = /^([+-]?)(\d+)(?:\.(\d+))?$/;

/**
 * The number in units of its last digit.
 * @param {string} text
 * @returns {{ units: bigint, scale: number }}
 */
function parse(text) {
  const parts = DECIMAL.exec(text);
  if (!parts) throw new RangeError(`"${text}" is not a decimal number`);
  const [, sign, whole, fraction = ""] = parts;
  const units = BigInt(whole + fraction);
  return { units: sign === "-" ? -units : units, scale: fraction.length };
}

/**
 * @param {bigint} units
 * @param {number} scale
 */
function print(units, scale) {
  const sign = units < 0n ? "-" : "";
  const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, "0");
  const point = digits.length - scale;
  return scale === 0 ? sign + digits : `${sign}${digits.slice(0, point)}.${digits.slice(point)}`;
}

/**
 * The exact sum, with the digits of the most exact of them; "0" of none.
 * @param {Iterable<string>} texts
 */
export function sum(texts) {
  let total = 0n;
  let scale = 0;
  for (const text of texts) {
    const next = parse(text);
    const common = Math.max(scale, next.scale);
    total = total * 10n ** BigInt(common - scale) + next.units * 10n ** BigInt(common - next.scale);
    scale = common;
  }
  return print(total, scale);
}

/** Whether it is zero. @param {string} text */
export function isZero(text) {
  return parse(text).units === 0n;
}

/** How many digits behind the point say something. @param {string} text */
export function fractionDigits(text) {
  return (DECIMAL.exec(text)?.[3] ?? "").replace(/0+$/, "").length;
}

/**
 * Near enough for pixels, and for nothing else.
 * @param {string} text
 */
export function toPixels(text) {
  return Number(text);
}
