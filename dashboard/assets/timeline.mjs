// The timeline: lanes of a run on a canvas. Holds the scene and the view; the files in timeline/
// fetch (data), place (rows), scale, draw (paint), listen (input), pick and describe (words).
// The window, the selection and the hidden kinds live in the URL, through `rankscope.view`.
import { Source } from "./timeline/data.mjs";
import { listen } from "./timeline/input.mjs";
import { AXIS, GUTTER, paint, readColours } from "./timeline/paint.mjs";
import { Legend } from "./timeline/legend.mjs";
import { Minimap } from "./timeline/minimap.mjs";
import { Picker } from "./timeline/picker.mjs";
import { layoutRows, rowsBetween } from "./timeline/rows.mjs";
import { formatMoment, formatNs, View } from "./timeline/scale.mjs";
import { element, plain, Tooltip } from "./timeline/words.mjs";

const OVERSCAN = 0.5; // of the window, fetched on either side so that panning finds it there
const MAX_QUERY_WIDTH = 16_384; // window.py: MAX_WIDTH
const MAX_QUERY_ROWS = 4_096; // window.py: MAX_ROWS
const OVERVIEW_PIXELS = 2_000_000; // rows × width: with very many rows the overview gets coarser
const FETCH_DELAY_MS = 30;
const URL_DELAY_MS = 250; // a gesture is one change of the URL
const HISTORY_GAP_MS = 1_500; // changes closer than this share a step of the history
const STEP_MARGIN = 0.02;
const EVENT_MARGIN = 1.5; // of an event's duration, on either side when it is gone to
const LEAST_HEIGHT = 220;
const LIVE_STEPS = 4; // shown of a run that is being recorded
const COMPUTE = ["forward", "backward", "backward_input", "backward_weight"];

class Timeline {
  constructor(root) {
    this.root = root;
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.frame = this.part("frame");
    this.canvas = element("canvas");
    this.frame.prepend(this.canvas);
    this.ctx = this.canvas.getContext("2d", { alpha: false });
    this.tooltip = new Tooltip(this.part("tooltip"), this.frame);
    this.source = new Source(root.dataset.run);
    this.ending = new AbortController();
    this.picker = new Picker(this);
    this.minimap = new Minimap(this);
    this.path = window.location.pathname;
    this.lastPush = Number.NEGATIVE_INFINITY;
    this.scene = {
      scroll: 0,
      reply: null, // what the server says of the window, and
      overview: null, // of the whole run
      path: null, // the critical path in the window; null: not shown
      hidden: new Set(), // kinds
      marks: [], // outlines
      labels: true,
      band: null, // the range that is being marked
      pointerX: null,
    };
  }

  async start() {
    this.lanes = await this.source.lanes();
    if (this.ending.signal.aborted) return;
    this.kindIndex = new Map(this.lanes.kinds.map((kind, index) => [kind, index]));
    this.view = new View(this.lanes.span);
    this.scene.view = this.view;
    this.scene.compute = new Set(COMPUTE.map((kind) => this.kindIndex.get(kind)));
    this.scene.wait = this.kindIndex.get("wait");
    this.scene.stepsOf = this.stepsByRank();
    this.legend = new Legend(this);
    this.recolour();
    this.watch();
    this.resize();
    this.followUrl();
    this.fetchOverview();
  }

  /** Let go of everything; the page has been left. */
  end() {
    this.ending.abort();
    this.observer?.disconnect();
    this.themes?.disconnect();
    clearTimeout(this.urlTimer);
    clearTimeout(this.fetchTimer);
  }

  watch() {
    const { signal } = this.ending;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.frame);
    this.themes = new MutationObserver(() => this.recolour());
    this.themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    window.addEventListener("popstate", () => this.followUrl(), { signal });
    window.addEventListener("rankscope-grown", () => this.grow(), { signal });
    window.addEventListener("rankscope-follow", () => this.followEnd(), { signal });
    listen(this, signal);
    this.minimap.listen(signal);
    for (const [name, act] of Object.entries({
      fit: () => this.fit(),
      closer: () => this.zoom(1 / 1.6),
      wider: () => this.zoom(1.6),
      previous: () => this.goToStep(-1),
      next: () => this.goToStep(1),
      help: () => this.toggleHelp(),
      path: () => this.togglePath(),
    })) {
      this.part(name).addEventListener("click", act, { signal });
    }
    this.part("help-box").addEventListener("click", () => this.toggleHelp(), { signal });
  }

  stepsByRank() {
    const steps = new Map();
    for (const [rank, step, start, duration] of this.lanes.steps) {
      if (!steps.has(rank)) steps.set(rank, []);
      steps.get(rank).push({ step, start, duration });
    }
    return steps;
  }

  // --- drawing -------------------------------------------------------------------------------

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.frame.clientWidth;
    const height = Math.max(this.frame.clientHeight, LEAST_HEIGHT);
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.view.width = Math.max(1, width - GUTTER);
    const layout = layoutRows(this.lanes.lanes, height - AXIS);
    Object.assign(this.scene, { width, height, ratio, layout });
    this.minimap.resize(width, ratio);
    this.scrollBy(0);
  }

  recolour() {
    this.scene.colours = readColours(this.lanes.kinds);
    this.legend.recolour();
    this.redraw();
  }

  colourOf(kind) {
    return this.scene.colours.kind[this.kindIndex.get(kind)];
  }

  redraw() {
    if (this.frameAsked) return;
    this.frameAsked = requestAnimationFrame(() => {
      this.frameAsked = 0;
      if (this.ending.signal.aborted || !this.scene.layout) return;
      this.scene.marks = this.picker.marks();
      paint(this.ctx, this.scene);
      this.minimap.paint();
    });
  }

  // --- the view ------------------------------------------------------------------------------

  /** After any move: draw, fetch what is missing, and when it settles tell the URL. */
  changed() {
    this.redraw();
    this.describe();
    clearTimeout(this.fetchTimer);
    this.fetchTimer = setTimeout(() => {
      this.fetchWindow();
      this.fetchPath();
    }, FETCH_DELAY_MS);
  }

  moved() {
    this.followsEnd = false;
    this.changed();
    clearTimeout(this.urlTimer);
    this.urlTimer = setTimeout(() => this.tellUrl(), URL_DELAY_MS);
  }

  zoom(factor, x) {
    this.view.zoom(factor, x);
    this.moved();
  }

  pan(pixels) {
    this.view.pan(pixels);
    this.moved();
  }

  fit() {
    this.view.fit();
    this.moved();
  }

  goTo(start, end) {
    this.view.set(start, end);
    this.moved();
  }

  scrollBy(pixels) {
    const most = Math.max(0, this.scene.layout.height - (this.scene.height - AXIS));
    this.scene.scroll = Math.min(most, Math.max(0, this.scene.scroll + pixels));
    this.changed();
  }

  drag(across, down) {
    this.canvas.style.cursor = "grabbing";
    this.picker.hover(null, null);
    this.view.pan(across);
    this.scrollBy(down);
    this.moved();
  }

  endDrag() {
    this.canvas.style.cursor = "";
  }

  /** Show the step before or after the one in the middle of the view; alone, with a margin. */
  goToStep(by) {
    const steps = this.scene.stepsOf.get(this.scene.layout.blocks[0]?.rank) ?? [];
    if (!steps.length) return;
    const middle = (this.view.start + this.view.end) / 2;
    const at = steps.findIndex(({ start, duration }) => middle < start + duration);
    const here = at < 0 ? steps.length - 1 : at;
    const alone = this.view.end - this.view.start < steps[here].duration * 1.5;
    const to = alone ? here + by : here;
    this.goToOneStep(steps[Math.min(steps.length - 1, Math.max(0, to))].step);
  }

  /** The window of a step over all ranks. */
  goToOneStep(number) {
    const all = this.lanes.steps.filter(([, step]) => step === number);
    const start = Math.min(...all.map(([, , from]) => from));
    const end = Math.max(...all.map(([, , from, duration]) => from + duration));
    const margin = (end - start) * STEP_MARGIN;
    this.goTo(start - margin, end + margin);
  }

  markBand(from, to) {
    const [left, right] = [from, to].map((x) => this.view.time(x - GUTTER));
    this.scene.band = { from, to, label: formatNs(Math.abs(right - left)) };
    this.redraw();
  }

  zoomToBand() {
    const { from, to } = this.scene.band;
    this.scene.band = null;
    const edges = [from, to].map((x) => this.view.time(Math.max(x, GUTTER) - GUTTER));
    this.goTo(Math.min(...edges), Math.max(...edges));
  }

  clickAxis(x) {
    const ns = this.view.time(x - GUTTER);
    const steps = this.scene.stepsOf.get(this.scene.layout.blocks[0]?.rank) ?? [];
    const step = steps.find(({ start, duration }) => ns >= start && ns < start + duration);
    if (step) this.goToOneStep(step.step);
  }

  zoomToSelection() {
    if (this.picker.selected) this.zoomTo(plain(this.picker.selected));
  }

  zoomTo({ start, duration }) {
    const margin = Math.max(duration, 1) * EVENT_MARGIN;
    this.goTo(start - margin, start + duration + margin);
  }

  // --- help, spoken summary --------------------------------------------------------------

  toggleHelp() {
    const box = this.part("help-box");
    box.hidden = !box.hidden;
    this.part("help").setAttribute("aria-expanded", String(!box.hidden));
  }

  escape() {
    const box = this.part("help-box");
    if (!box.hidden) this.toggleHelp();
    else this.picker.choose(null);
  }

  describe() {
    const { view } = this;
    const range = `${formatMoment(view.start, view)} – ${formatMoment(view.end, view)}`;
    this.part("range").textContent = `${range} · ${formatNs(view.end - view.start)} wide`;
  }

  // --- server and URL ----------------------------------------------------------------------------

  async fetchWindow() {
    const { view, scene } = this;
    const { reply, scroll } = scene;
    const tall = scene.height - AXIS;
    const [top, bottom] = rowsBetween(scene.layout, scroll, scroll + tall);
    const inTime = reply && reply.start <= view.start && reply.end >= view.end;
    const inRows = reply && reply.first_row <= top && reply.end_row >= bottom;
    const asked = reply && reply.asked_ns_per_pixel * scene.ratio;
    const sharp = reply && Math.abs(asked / view.nsPerPixel - 1) < 0.01;
    if (inTime && inRows && sharp && !this.hasGrown) return;
    const around = (view.end - view.start) * OVERSCAN;
    const [firstRow, endRow] = rowsBetween(scene.layout, scroll - tall, scroll + 2 * tall);
    const wanted = {
      start: Math.floor(view.start - around),
      end: Math.ceil(view.end + around),
      width: Math.min(MAX_QUERY_WIDTH, Math.round(view.width * scene.ratio * (1 + 2 * OVERSCAN))),
      firstRow,
      endRow: Math.min(endRow, firstRow + MAX_QUERY_ROWS),
    };
    await this.take(this.source.window(wanted), (fresh) => {
      scene.reply = fresh;
      this.hasGrown = false;
      this.picker.hoverAgain();
    });
  }

  /** The run that is shown is being recorded, and there is more of it. */
  async grow() {
    const rows = this.lanes.rows;
    this.lanes = await this.source.lanes();
    if (this.ending.signal.aborted) return;
    this.source.events.clear();
    this.view.span = this.lanes.span;
    this.scene.stepsOf = this.stepsByRank();
    this.hasGrown = true;
    this.pathKey = null;
    if (this.lanes.rows !== rows) this.resize();
    if (this.followsEnd) this.view.set(...this.lastSteps());
    this.changed();
    this.fetchOverview();
  }

  /** Back to the end of a run that is being recorded, and on with it. */
  followEnd() {
    this.told = null;
    this.followUrl();
  }

  /** The window of the last steps that every rank has told. */
  lastSteps() {
    const lasts = [...this.scene.stepsOf.values()].map((steps) => steps.at(-1).step);
    const last = Math.min(...lasts);
    return this.spanOf(last - LIVE_STEPS + 1, last);
  }

  /** Show the critical path, or no longer. */
  togglePath() {
    window.rankscope.view.set({ path: this.showsPath ? null : "1" });
  }

  async fetchPath() {
    const { view, scene } = this;
    const asked = { start: Math.floor(view.start), end: Math.ceil(view.end), width: view.width };
    const key = this.showsPath ? JSON.stringify(asked) : null;
    if (key === this.pathKey) return;
    this.pathKey = key;
    if (!key) {
      scene.path = null;
      this.redraw();
      return;
    }
    asked.width = Math.min(MAX_QUERY_WIDTH, Math.ceil(asked.width));
    await this.take(this.source.path(asked), (fresh) => {
      if (this.pathKey === key) scene.path = fresh;
    });
  }

  async fetchOverview() {
    const [start, end] = this.lanes.span;
    const endRow = Math.min(this.lanes.rows, MAX_QUERY_ROWS);
    const most = Math.ceil(OVERVIEW_PIXELS / Math.max(1, endRow));
    const width = Math.round(Math.min(this.view.width * this.scene.ratio, most));
    await this.take(this.source.once({ start, end, width, firstRow: 0, endRow }), (fresh) => {
      this.scene.overview = fresh;
    });
  }

  async take(promise, keep) {
    try {
      const fresh = await promise;
      if (!fresh || this.ending.signal.aborted) return;
      keep(fresh);
      this.part("trouble").hidden = true;
      this.root.dataset.ready = "true";
      this.redraw();
    } catch (error) {
      this.part("trouble").textContent = `The dashboard's server does not answer: ${error.message}`;
      this.part("trouble").hidden = false;
    }
  }

  tellUrl() {
    const now = performance.now();
    const replace = now - this.lastPush < HISTORY_GAP_MS;
    this.lastPush = now;
    const [t0, t1] = this.view.isWhole ? [null, null] : [this.view.start, this.view.end].map(String);
    this.told = [t0, t1];
    window.rankscope.view.set({ t0, t1 }, { replace });
  }

  /** Show what the URL says: at the start, on Back, and after `rankscope.view.set`. */
  followUrl() {
    if (!this.root.isConnected || window.location.pathname !== this.path) {
      this.end();
      return;
    }
    const query = window.rankscope.view.get();
    const asked = [query.get("t0"), query.get("t1")];
    if (!this.told || asked.some((edge, i) => edge !== this.told[i])) {
      this.told = asked;
      clearTimeout(this.urlTimer);
      this.followsEnd = !query.has("t0") && !query.get("steps") && isLive();
      this.view.set(...(this.followsEnd ? this.lastSteps() : this.windowOf(query)));
    }
    this.scene.hidden = this.legend.follow(query.get("hide"));
    this.picker.follow(query.get("sel"));
    this.showsPath = query.get("path") === "1";
    this.part("path").setAttribute("aria-pressed", String(this.showsPath));
    this.changed();
  }

  windowOf(query) {
    if (query.has("t0") && query.has("t1")) return [Number(query.get("t0")), Number(query.get("t1"))];
    const [first, last = first] = (query.get("steps") ?? "").split("-").filter(Boolean).map(Number);
    return this.spanOf(first, last);
  }

  /** From the first start to the last end of these steps; of the run where there are none. */
  spanOf(first, last) {
    const chosen = this.lanes.steps.filter(([, step]) => step >= first && step <= last);
    if (!chosen.length) return this.lanes.span;
    return [
      Math.min(...chosen.map(([, , start]) => start)),
      Math.max(...chosen.map(([, , start, duration]) => start + duration)),
    ];
  }
}

/** Whether the shown run is being recorded (live.js writes the badge). */
function isLive() {
  return document.getElementById("shell-live")?.dataset.state === "live";
}

let current = null;

/** Take over the page's root element; an earlier timeline lets go. */
function mount(root) {
  current?.end();
  current = new Timeline(root);
  current.start().catch((error) => {
    const trouble = root.querySelector('[data-part="trouble"]');
    trouble.textContent = `The timeline could not be shown: ${error.message}`;
    trouble.hidden = false;
  });
}

window.rankscope = Object.assign(window.rankscope ?? {}, { mountTimeline: mount });
window.dispatchEvent(new Event("rankscope-timeline-loaded"));
