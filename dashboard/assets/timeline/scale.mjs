// Time on the screen: a window in ns over a width in CSS pixels, its ticks, and how times read.

const MIN_SPAN_NS = 50; // closer than this there is nothing between two clock readings
const MARGIN = 0.02; // of the run, shown beyond its ends
const TICK_PIXELS = 110; // room for a label such as "1,234.5 ms"
const UNITS = [
  { name: "s", ns: 1e9 },
  { name: "ms", ns: 1e6 },
  { name: "µs", ns: 1e3 },
  { name: "ns", ns: 1 },
];
const digits = (places) =>
  new Intl.NumberFormat("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });

/** What is looked at: `start` and `end` in ns from the run's start, over `width` pixels. */
export class View {
  constructor(span) {
    this.span = span;
    [this.start, this.end] = span;
    this.width = 1;
  }

  get nsPerPixel() {
    return (this.end - this.start) / this.width;
  }

  /** Nothing of the run lies outside. */
  get isWhole() {
    return this.start <= this.span[0] && this.end >= this.span[1];
  }

  x(ns) {
    return (ns - this.start) / this.nsPerPixel;
  }

  time(x) {
    return this.start + x * this.nsPerPixel;
  }

  /** Show start … end, moved and widened so far that it lies within the run and its margin. */
  set(start, end) {
    const [low, high] = this.span;
    const margin = (high - low) * MARGIN;
    const earliest = Math.max(0, low - margin);
    const latest = high + margin;
    const length = Math.min(Math.max(end - start, MIN_SPAN_NS), latest - earliest);
    const from = Math.min((start + end - length) / 2, latest - length);
    this.start = Math.round(Math.max(earliest, from));
    this.end = Math.round(this.start + length);
  }

  fit() {
    this.set(...this.span);
  }

  /** Zoom by `factor` (< 1: closer) so that what is under `x` stays there. */
  zoom(factor, x = this.width / 2) {
    const [low, high] = this.span;
    const wanted = (this.end - this.start) * factor;
    const length = Math.min(Math.max(wanted, MIN_SPAN_NS), (high - low) * (1 + 2 * MARGIN));
    const start = this.time(x) - (x / this.width) * length;
    this.set(start, start + length);
  }

  pan(pixels) {
    const ns = pixels * this.nsPerPixel;
    this.set(this.start + ns, this.end + ns);
  }
}

/** Round times to mark, with labels in one unit: `[{ns, label}]`. */
export function ticks(view) {
  const wanted = view.nsPerPixel * TICK_PIXELS;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = Math.max(1, [1, 2, 5, 10].find((n) => n * power >= wanted) * power);
  const unit = UNITS.find((candidate) => candidate.ns <= Math.max(step, view.end / 1e4)) ?? UNITS[3];
  const places = Math.max(0, Math.ceil(Math.log10(unit.ns / step) - 1e-9));
  const text = digits(places);
  const marks = [];
  for (let ns = Math.ceil(view.start / step) * step; ns <= view.end; ns += step) {
    marks.push({ ns, label: `${text.format(ns / unit.ns)} ${unit.name}` });
  }
  return marks;
}

/** `1.234 ms`: four digits that mean something, in the unit that suits. */
export function formatNs(ns) {
  const unit = UNITS.find((candidate) => Math.abs(ns) >= candidate.ns) ?? UNITS[3];
  const value = ns / unit.ns;
  const whole = Math.max(1, Math.floor(Math.log10(Math.abs(value) || 1)) + 1);
  return `${digits(unit.ns === 1 ? 0 : Math.max(0, 4 - whole)).format(value)} ${unit.name}`;
}

/** A moment with a resolution that fits the window it is seen in. */
export function formatMoment(ns, view) {
  const unit = UNITS.find((candidate) => Math.abs(view.end) >= candidate.ns * 10) ?? UNITS[3];
  const places = Math.max(0, Math.ceil(Math.log10(unit.ns / Math.max(1, view.nsPerPixel))));
  return `${digits(Math.min(places, 9)).format(ns / unit.ns)} ${unit.name}`;
}

/** `1.049 MB`. */
export function formatBytes(bytes) {
  const unit = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, size]) => bytes >= size);
  return unit ? `${(bytes / unit[1]).toPrecision(4)} ${unit[0]}` : `${bytes} bytes`;
}
