// Windows over time, drawn by uPlot. What eyes can see is said as well: a summary, and each window's text by arrow keys.

import { h, set } from "./dom.js";
import uPlot from "./uplot.js";

/** @typedef {import("./format.js").Formats} Formats */
/** @typedef {{ start: number, end: number, open: boolean, corrected: boolean }} Slot a window's place, milliseconds */

/**
 * @typedef {object} Line
 * @property {"bars" | "line"} kind
 * @property {string} color a custom property of the style sheet
 * @property {(number | null)[]} values for pixels only
 * @property {string} axis `left` or `right`
 * @property {number[]} [dash]
 */

/**
 * @typedef {object} Picture
 * @property {Slot[]} slots
 * @property {Line[]} lines
 * @property {(at: number) => (string | Node)[]} tip the lines of text about a window, exact
 * @property {string} summary
 * @property {Formats} formats
 * @property {string} shape changes when lines are others than before
 */

/** A chart in a place of its own. */
export class Chart {
  /** @type {uPlot | null} */
  #plot = null;
  /** @type {Picture | null} */
  #picture = null;
  #drawn = "";
  #byKey = false;

  /**
   * @param {string} testid
   * @param {string} hint id of the text that says how to read it by keys
   * @param {number} height pixels
   */
  constructor(testid, hint, height) {
    this.#height = height;
    this.#canvas = h("div", { class: "chart", role: "img", tabindex: "0", testid, "aria-describedby": hint });
    this.#tip = h("div", { class: "chart-tip", hidden: true, testid: `${testid}-tooltip` });
    this.#say = h("div", { class: "unseen", "aria-live": "polite", testid: `${testid}-announce` });
    this.element = h("div", { class: "chart-place" }, this.#canvas, this.#tip, this.#say);
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#canvas.addEventListener("blur", () => this.#point(null));
    this.#size = new ResizeObserver(() => this.#resize());
    this.#size.observe(this.element);
    this.#theme = () => this.#again();
    document.addEventListener("themechange", this.#theme);
  }

  #height;
  #canvas;
  #tip;
  #say;
  #size;
  #theme;

  /** @param {Picture} picture */
  show(picture) {
    this.#picture = picture;
    set(this.#canvas, {
      "aria-label": picture.summary,
      data: {
        windows: picture.slots.length,
        provisional: picture.slots.filter((slot) => slot.open).length,
        corrected: picture.slots.filter((slot) => slot.corrected).length,
      },
    });
    if (this.#plot && this.#drawn === picture.shape) {
      this.#plot.setData(data(picture));
    } else {
      this.#again();
    }
  }

  /** Ends it. */
  destroy() {
    this.#plot?.destroy();
    this.#size.disconnect();
    document.removeEventListener("themechange", this.#theme);
  }

  #again() {
    const picture = this.#picture;
    if (!picture || this.element.clientWidth === 0) return;
    this.#plot?.destroy();
    this.#drawn = picture.shape;
    this.#plot = new uPlot(this.#options(picture), data(picture), this.#canvas);
  }

  #resize() {
    if (!this.#plot) this.#again();
    else if (this.#plot.width !== this.element.clientWidth) this.#plot.setSize({ width: this.element.clientWidth, height: this.#height });
  }

  /**
   * @param {Picture} picture
   * @returns {uPlot.Options}
   */
  #options(picture) {
    const style = getComputedStyle(this.element);
    const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    const font = `12px ${style.fontFamily}`;
    const narrow = this.element.clientWidth < 480;
    const now = () => /** @type {Picture} */ (this.#picture);
    const compact = (/** @type {uPlot} */ _, /** @type {number[]} */ splits) => splits.map((value) => now().formats.compact(value));
    /** @type {uPlot.Axis} */
    const axis = { stroke: color("--muted"), font, grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false } };
    const right = picture.lines.some((line) => line.axis === "right");
    return {
      width: this.element.clientWidth,
      height: this.#height,
      padding: [18, right ? 0 : 20, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), now().formats.zone),
      scales: {
        x: { time: true, range: () => [now().slots[0].start / 1e3, now().slots[now().slots.length - 1].end / 1e3] },
        left: { range: fromZero },
        right: { range: fromZero },
      },
      axes: [
        { ...axis, size: 30, grid: { show: false }, space: narrow ? 64 : 56, values: (_, splits) => splits.map((seconds) => hour(seconds * 1e3, now().formats)) },
        { ...axis, scale: "left", values: compact, size: sized },
        ...(right ? [{ ...axis, scale: "right", side: /** @type {any} */ (1), grid: { show: false }, values: compact, size: sized, stroke: color(picture.lines[picture.lines.length - 1].color) }] : []),
      ],
      series: [
        {},
        ...picture.lines.flatMap((line) => [series(line, color(line.color), color("--surface"), false), series(line, color(line.color), color("--surface"), true)]),
      ],
      hooks: {
        drawClear: [(plot) => openGround(plot, now().slots, color("--open-ground"))],
        draw: [(plot) => corrections(plot, now(), color("--corrected"), color("--surface"))],
        setCursor: [(plot) => this.#point(plot.cursor.idx ?? null)],
      },
    };
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const plot = this.#plot;
    const picture = this.#picture;
    if (!plot || !picture || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = picture.slots.length - 1;
    const at = plot.cursor.idx ?? null;
    const to = { ArrowLeft: at === null ? last : Math.max(0, at - 1), ArrowRight: at === null ? 0 : Math.min(last, at + 1), Home: 0, End: last }[event.key];
    if (event.key === "Escape") return this.#point(null);
    if (to === undefined) return;
    event.preventDefault();
    this.#byKey = true;
    plot.setCursor({ left: plot.valToPos(plot.data[0][to], "x"), top: 0 });
  }

  /**
   * Shows what a window holds; nothing for `null`.
   * @param {number | null} at
   */
  #point(at) {
    const plot = this.#plot;
    const picture = this.#picture;
    const spoken = this.#byKey;
    this.#byKey = false;
    if (at === null || !plot || !picture || !picture.slots[at]) {
      this.#tip.hidden = true;
      return;
    }
    const lines = picture.tip(at);
    this.#tip.replaceChildren(...lines.map((line) => h("div", {}, line)));
    set(this.#tip, { data: { window: new Date(picture.slots[at].start).toISOString().replace(".000Z", "Z") } });
    this.#tip.hidden = false;
    const x = plot.over.offsetLeft + plot.valToPos(plot.data[0][at], "x");
    const wide = this.#tip.offsetWidth;
    const left = x + 14 + wide > this.element.clientWidth ? Math.max(0, x - 14 - wide) : x + 14;
    this.#tip.style.transform = `translate(${Math.round(left)}px, 18px)`;
    if (spoken) this.#say.textContent = this.#tip.innerText.replaceAll("\n", ", ");
  }
}

/**
 * Middles of windows, and every line twice: as of closed windows and as of open ones.
 * @param {Picture} picture
 * @returns {uPlot.AlignedData}
 */
function data({ slots, lines }) {
  const columns = lines.flatMap(({ kind, values }) => [
    values.map((value, at) => (slots[at].open ? null : value)),
    // A line goes on from the last closed window.
    values.map((value, at) => (slots[at].open || (kind === "line" && slots[at + 1]?.open) ? value : null)),
  ]);
  return [slots.map(({ start, end }) => (start + end) / 2e3), ...columns];
}

/**
 * @param {Line} line
 * @param {string} color
 * @param {string} ground
 * @param {boolean} open
 * @returns {uPlot.Series}
 */
function series(line, color, ground, open) {
  if (line.kind === "line") {
    return {
      scale: line.axis,
      stroke: color,
      width: 2,
      dash: open ? [2, 4] : line.dash,
      points: open ? { show: true, size: 7, fill: ground, stroke: color, width: 1.5 } : { show: false },
    };
  }
  return {
    scale: line.axis,
    stroke: color,
    width: open ? 1.5 : 0,
    dash: open ? [4, 3] : undefined,
    fill: open ? (plot) => hatched(plot.ctx, color) ?? "transparent" : color,
    paths: uPlot.paths.bars?.({ size: [0.72, 28], radius: 0.12 }),
    points: { show: false },
  };
}

/**
 * Diagonal lines.
 * @param {CanvasRenderingContext2D} context
 * @param {string} color
 */
function hatched(context, color) {
  const size = Math.round(8 * devicePixelRatio);
  const tile = h("canvas", { width: size, height: size });
  const pen = tile.getContext("2d");
  if (!pen) return null;
  pen.strokeStyle = color;
  pen.lineWidth = 1.5 * devicePixelRatio;
  pen.beginPath();
  for (const from of [-size, 0, size]) {
    pen.moveTo(from, size);
    pen.lineTo(from + size, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

/**
 * A ground below what is still open, so that it is seen also where nothing has happened yet.
 * @param {uPlot} plot
 * @param {Slot[]} slots
 * @param {string} color
 */
function openGround(plot, slots, color) {
  const open = slots.filter((slot) => slot.open);
  if (open.length === 0) return;
  const from = plot.valToPos(open[0].start / 1e3, "x", true);
  const to = plot.valToPos(open[open.length - 1].end / 1e3, "x", true);
  plot.ctx.save();
  plot.ctx.fillStyle = color;
  plot.ctx.fillRect(from, plot.bbox.top, to - from, plot.bbox.height);
  plot.ctx.restore();
}

/**
 * A diamond above every window that was corrected.
 * @param {uPlot} plot
 * @param {Picture} picture
 * @param {string} color
 * @param {string} ground
 */
function corrections(plot, { slots, lines }, color, ground) {
  const pen = plot.ctx;
  const half = 4.5 * devicePixelRatio;
  slots.forEach((slot, at) => {
    if (!slot.corrected) return;
    const tops = lines.filter((line) => line.values[at] !== null).map((line) => plot.valToPos(/** @type {number} */ (line.values[at]), line.axis, true));
    const x = plot.valToPos((slot.start + slot.end) / 2e3, "x", true);
    const y = Math.max(Math.min(plot.bbox.top + plot.bbox.height, ...tops) - 2 * half, half * 1.4);
    pen.save();
    pen.beginPath();
    pen.moveTo(x, y - half);
    pen.lineTo(x + half, y);
    pen.lineTo(x, y + half);
    pen.lineTo(x - half, y);
    pen.closePath();
    pen.fillStyle = color;
    pen.strokeStyle = ground;
    pen.lineWidth = devicePixelRatio;
    pen.stroke();
    pen.fill();
    pen.restore();
  });
}

/**
 * Zero is always in sight; all zeros have some height nevertheless.
 * @param {uPlot} _
 * @param {number | null} least
 * @param {number | null} most
 * @returns {uPlot.Range.MinMax}
 */
function fromZero(_, least, most) {
  const [low, high] = [Math.min(least ?? 0, 0), Math.max(most ?? 0, 0)];
  const room = (high - low || 1) * 0.06;
  return [low < 0 ? low - room : 0, high > 0 || low === 0 ? high + room : 0];
}

/**
 * As wide as its widest text.
 * @param {uPlot} plot
 * @param {string[] | null} values
 */
function sized(plot, values) {
  if (!values) return 30;
  plot.ctx.save();
  plot.ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  const widest = Math.max(...values.map((value) => plot.ctx.measureText(value).width));
  plot.ctx.restore();
  return Math.ceil(widest / devicePixelRatio) + 16;
}

/**
 * Hours and minutes; at the start of a day the day.
 * @param {number} instant
 * @param {Formats} formats
 */
function hour(instant, formats) {
  const time = formats.time(instant);
  return time === "00:00" ? formats.shortDay(instant) : time;
}
