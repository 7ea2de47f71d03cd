// The timeline: lanes of a run on a canvas. Holds the scene and the view; the files in timeline/
// fetch (data, feed), place (rows), scale, draw (paint), listen (input), pick and describe (words).
// The window, the selection and the hidden kinds live in the URL, through `rankscope.view`.
import { Source } from "./timeline/data.mjs";
import { Arrangement } from "./timeline/arrangement.mjs";
import { Feed } from "./timeline/feed.mjs";
import { AXIS, GUTTER } from "./timeline/frame.mjs";
import { listen } from "./timeline/input.mjs";
import { Legend } from "./timeline/legend.mjs";
import { Minimap } from "./timeline/minimap.mjs";
import { Overlay, OVERLAYS } from "./timeline/overlays.mjs";
import { paint, readColours } from "./timeline/paint.mjs";
import { Picker } from "./timeline/picker.mjs";
import { layoutRows } from "./timeline/rows.mjs";
import { formatMoment, formatNs, View } from "./timeline/scale.mjs";
import { Search } from "./timeline/search.mjs";
import { Selection } from "./timeline/selection.mjs";
import { Steps } from "./timeline/steps.mjs";
import { trackRows } from "./timeline/tracks.mjs";
import { element, plain, Tooltip } from "./timeline/words.mjs";

const FETCH_DELAY_MS = 30;
const URL_DELAY_MS = 250; // a gesture is one change of the URL
const HISTORY_GAP_MS = 1_500; // changes closer than this share a step of the history
const EVENT_MARGIN = 1.5; // of an event's duration, on either side when it is gone to
const LEAST_HEIGHT = 220;
const SAID_MS = 6_000; // how long a remark stays
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
    this.feed = new Feed(this);
    this.picker = new Picker(this);
    this.selection = new Selection(this);
    this.search = new Search(this);
    this.minimap = new Minimap(this);
    this.steps = new Steps(this);
    this.path = window.location.pathname;
    this.lastPush = Number.NEGATIVE_INFINITY;
    this.scene = {
      scroll: 0,
      reply: null, // what the server says of the window, and
      overview: null, // of the whole run
      stepsOf: new Map(), // of each rank in the window: its steps that there is room for
      marked: null, // the stretch of time that is selected
      ticks: [], // where the search has found something, ns
      hidden: new Set(), // kinds
      marks: [], // outlines
      labels: true,
      band: null, // the range that is being marked
      pointerX: null,
    };
    for (const name of OVERLAYS) this.scene[name] = null; // what it says; null: not shown
    const made = OVERLAYS.map((name) => [name, new Overlay(this, name)]);
    this.overlays = Object.fromEntries(made);
  }

  async start() {
    this.lanes = await this.source.lanes();
    if (this.ending.signal.aborted) return;
    this.kindIndex = new Map(this.lanes.kinds.map((kind, index) => [kind, index]));
    this.view = new View(this.lanes.span);
    this.scene.view = this.view;
    this.scene.compute = new Set(COMPUTE.map((kind) => this.kindIndex.get(kind)));
    this.scene.wait = this.kindIndex.get("wait");
    this.scene.kindIndex = this.kindIndex;
    this.arrangement = new Arrangement(this);
    this.legend = new Legend(this);
    this.recolour();
    this.watch();
    this.resize();
    this.followUrl();
    this.feed.overview();
  }

  /** Let go of everything; the page has been left. */
  end() {
    this.ending.abort();
    this.observer?.disconnect();
    this.themes?.disconnect();
    this.feed.end();
    clearTimeout(this.urlTimer);
    clearTimeout(this.fetchTimer);
    clearTimeout(this.sayTimer);
  }

  watch() {
    const { signal } = this.ending;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.frame);
    this.themes = new MutationObserver(() => this.recolour());
    this.themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    window.addEventListener("popstate", () => this.followUrl(), { signal });
    window.addEventListener("rankscope-grown", () => this.feed.grow(), { signal });
    window.addEventListener("rankscope-follow", () => this.followEnd(), { signal });
    listen(this, signal);
    this.minimap.listen(signal);
    this.search.listen(signal);
    for (const [name, act] of Object.entries({
      fit: () => this.fit(),
      closer: () => this.zoom(1 / 1.6),
      wider: () => this.zoom(1.6),
      previous: () => this.steps.go(-1),
      next: () => this.steps.go(1),
      help: () => this.toggleHelp(),
      ...Object.fromEntries(OVERLAYS.map((one) => [one, () => this.overlays[one].toggle()])),
    })) {
      this.part(name).addEventListener("click", act, { signal });
    }
    this.part("help-box").addEventListener("click", () => this.toggleHelp(), { signal });
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
    Object.assign(this.scene, { width, height, ratio });
    this.minimap.resize(width, ratio);
    this.layOut();
  }

  /** Where the rows lie: anew when the size, the arrangement or the tracks change. */
  layOut() {
    if (!this.scene.height) return;
    const { width, height } = this.scene;
    const tracks = trackRows(this.scene);
    const key = JSON.stringify([width, height, this.lanes.rows, tracks, this.arrangement.key]);
    if (key !== this.layoutKey) {
      this.layoutKey = key;
      const asked = { ...this.arrangement.asked, tracks };
      this.scene.layout = layoutRows(this.lanes.lanes, height - AXIS, asked);
      this.root.dataset.ranks = this.scene.layout.blocks.map(({ rank }) => rank).join();
    }
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
      this.feed.window();
      for (const overlay of Object.values(this.overlays)) overlay.fetch();
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

  /** The stretch that the pointer marks, from one place to another. */
  markBand([from, y0], [to, y1]) {
    const [left, right] = [from, to].map((x) => this.view.time(x - GUTTER));
    const blocks = this.arrangement.blocksBetween(Math.min(y0, y1), Math.max(y0, y1));
    const y = (place) => Math.max(AXIS, place + AXIS - this.scene.scroll);
    const top = blocks.length ? y(blocks[0].y) : 0;
    const bottom = blocks.length ? y(blocks.at(-1).end) : this.scene.height;
    this.scene.band = { from, to, top, bottom, label: formatNs(Math.abs(right - left)) };
    this.redraw();
  }

  chooseBand(from, to) {
    this.scene.band = null;
    this.selection.choose(from, to);
  }

  zoomToSelection() {
    if (this.picker.selected) this.zoomTo(plain(this.picker.selected));
    else this.selection.zoom();
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
    else if (this.selection.marked) this.selection.clear();
    else this.picker.choose(null);
  }

  /** A remark on what was asked for, for a while. */
  say(text) {
    const box = this.part("said");
    box.textContent = text;
    box.hidden = false;
    clearTimeout(this.sayTimer);
    this.sayTimer = setTimeout(() => {
      box.hidden = true;
    }, SAID_MS);
  }

  describe() {
    const { view } = this;
    const range = `${formatMoment(view.start, view)} – ${formatMoment(view.end, view)}`;
    this.part("range").textContent = `${range} · ${formatNs(view.end - view.start)} wide`;
  }

  // --- URL ----------------------------------------------------------------------------

  /** Back to the end of a run that is being recorded, and on with it. */
  followEnd() {
    this.told = null;
    this.followUrl();
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
      // Whether the run is live may be known later than this: then it goes to the end as it grows.
      this.followsEnd = !query.has("t0") && !query.get("steps");
      const atEnd = this.followsEnd && isLive();
      this.view.set(...(atEnd ? this.steps.last() : this.windowOf(query)));
    }
    this.scene.hidden = this.legend.follow(query.get("hide"));
    this.picker.follow(query.get("sel"));
    this.selection.follow(query);
    this.scene.marked = this.selection.marked;
    this.search.follow(query);
    for (const overlay of Object.values(this.overlays)) overlay.follow(query);
    this.arrangement.follow(query);
    this.changed();
  }

  windowOf(query) {
    if (query.has("t0") && query.has("t1")) return [Number(query.get("t0")), Number(query.get("t1"))];
    const [first, last = first] = (query.get("steps") ?? "").split("-").filter(Boolean).map(Number);
    return this.steps.span(first, last);
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
