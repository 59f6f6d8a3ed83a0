// Elements in one expression. Texts are always text nodes: nothing that the API says is ever read as HTML.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [properties] attributes; `class`, `testid`, `data` (an object), and listeners (`onclick` …) as well
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  set(element, properties);
  element.append(...present(children));
  return element;
}

/**
 * @param {Element} element
 * @param {Record<string, any>} properties
 */
export function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "testid") element.setAttribute("data-testid", value);
    else if (name === "data") for (const [key, one] of Object.entries(value)) element.setAttribute(`data-${key}`, String(one ?? ""));
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === null || value === undefined || value === false) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * Replaces what an element holds, unless it holds the same already: what is read out or selected stays as it is.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  const holder = document.createElement(element.tagName);
  holder.append(...present(children));
  if (holder.innerHTML !== element.innerHTML) element.replaceChildren(...holder.childNodes);
}

/**
 * An icon of the page's own set, for the eye only.
 * @param {string} path of a 24 by 24 drawing in lines
 */
export function icon(path) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  set(svg, { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" });
  const line = document.createElementNS(space, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** @param {(Child | Child[])[]} children */
function present(children) {
  return /** @type {(Node | string)[]} */ (
    children.flat().filter((child) => child !== null && child !== undefined && child !== false).map((child) => (typeof child === "number" ? String(child) : child))
  );
}
