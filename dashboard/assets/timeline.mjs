// The timeline: lanes of a run on a canvas. Holds the scene and the view; the files in timeline/
// fetch (data), place (rows), scale, draw (paint), listen (input) and describe (words).
// The window, the selection and the hidden kinds live in the URL, through `rankscope.view`.
import { find, Source } from "./timeline/data.mjs";
import { listen } from "./timeline/input.mjs";
import { AXIS, GUTTER, paint, readColours } from "./timeline/paint.mjs";
import { layoutRows, rowAt } from "./timeline/rows.mjs";
import { formatMoment, formatNs, View } from "./timeline/scale.mjs";
import { describeCells, element, eventTitle, fieldList, kindTitle, plain, showDetails, Tooltip } from "./timeline/words.mjs";

const OVERSCAN = 0.5; // of the window, fetched on either side so that panning finds it there
const MAX_QUERY_WIDTH = 16_384; // window.py: MAX_WIDTH
const FETCH_DELAY_MS = 30;
const URL_DELAY_MS = 250; // a gesture is one change of the URL
const HISTORY_GAP_MS = 1_500; // changes closer than this share a step of the history
const DETAILS_DELAY_MS = 60;
const STEP_MARGIN = 0.02;
const EVENT_MARGIN = 1.5; // of an event's duration, on either side when it is gone to
const LEAST_HEIGHT = 220;
const SLACK_PIXELS = 2; // how far from a thin event the pointer may be
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
    this.selection = null;
    this.selected = null;
    this.lastPush = 0;
    this.hovered = null;
    this.scene = { scroll: 0, reply: null, overview: null, hidden: new Set(), marks: [], band: null, pointerX: null };
  }

  async start() {
    this.lanes = await this.source.lanes();
    if (this.ending.signal.aborted) return;
    this.kindIndex = new Map(this.lanes.kinds.map((kind, index) => [kind, index]));
    this.view = new View(this.lanes.span);
    this.scene.view = this.view;
    this.scene.compute = new Set(COMPUTE.map((kind) => this.kindIndex.get(kind)));
    this.scene.stepsOf = this.stepsByRank();
    this.buildLegend();
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
    listen(this, signal);
    for (const [name, act] of Object.entries({
      fit: () => this.fit(),
      closer: () => this.zoom(1 / 1.6),
      wider: () => this.zoom(1.6),
      previous: () => this.goToStep(-1),
      next: () => this.goToStep(1),
      help: () => this.toggleHelp(),
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
    this.scrollBy(0);
    this.changed();
  }

  recolour() {
    this.scene.colours = readColours(this.lanes.kinds);
    for (const button of this.part("legend").children) {
      button.firstElementChild.style.background = this.colourOf(button.dataset.kind);
    }
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
      this.scene.marks = this.marks();
      paint(this.ctx, this.scene);
    });
  }

  marks() {
    const marks = [];
    const outline = ({ rank, lane, start, duration, row }, strong) => {
      const place = row ?? this.rowOf(rank, lane, start, duration);
      if (place >= 0) marks.push({ row: place, start, duration, strong });
    };
    if (this.hovered) outline(this.hovered, false);
    if (this.selected) {
      for (const other of this.selected.related) outline(other, false);
      outline({ rank: this.selected.rank, ...plain(this.selected) }, true);
    }
    return marks;
  }

  /** The row in which an event is drawn: the one of its lane that holds it now, else the first. */
  rowOf(rank, lane, start, duration) {
    const known = this.lanes.lanes.find((one) => one.rank === rank && one.lane === lane);
    if (!known) return -1;
    const { reply } = this.scene;
    for (let row = known.first_row; reply && row < known.first_row + known.rows; row += 1) {
      const hit = find(reply, row, start + duration / 2, 0);
      if (hit?.box === undefined) continue;
      const same = Math.abs(reply.start + reply.box.start[hit.box] - start) < 1;
      if (same && reply.box.duration[hit.box] === duration) return row;
    }
    return known.first_row;
  }

  // --- the view ------------------------------------------------------------------------------

  /** After any move: draw, fetch what is missing, and when it settles tell the URL. */
  changed() {
    this.redraw();
    this.describe();
    clearTimeout(this.fetchTimer);
    this.fetchTimer = setTimeout(() => this.fetchWindow(), FETCH_DELAY_MS);
  }

  moved() {
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
    this.redraw();
  }

  drag(across, down) {
    this.canvas.style.cursor = "grabbing";
    this.hover(null, null);
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

  // --- what is under the pointer ---------------------------------------------------------------

  /** The event or the merged pixel at a place of the canvas, or null. */
  at(x, y) {
    const { layout, reply, scroll, hidden } = this.scene;
    if (x === null || x < GUTTER || y < AXIS || !reply) return null;
    const row = rowAt(layout, y - AXIS + scroll);
    if (row < 0) return null;
    const ns = this.view.time(x - GUTTER);
    const found = find(reply, row, ns, SLACK_PIXELS * this.view.nsPerPixel);
    const { rank, lane } = layout.rows[row].lane;
    if (found?.box !== undefined) {
      const { box } = reply;
      const i = found.box;
      if (hidden.has(box.kind[i])) return null;
      return { rank, lane, row, event: box.event[i], kind: box.kind[i], start: reply.start + box.start[i], duration: box.duration[i] };
    }
    const cells = found?.cells?.filter((i) => !hidden.has(reply.cell.kind[i])) ?? [];
    if (!cells.length) return null;
    const { cell } = reply;
    const start = reply.start + cell.pixel[cells[0]] * reply.nsPerPixel;
    const count = cells.reduce((sum, i) => sum + cell.count[i], 0);
    const single = count === 1 ? cell.event[cells.find((i) => cell.count[i])] : undefined;
    return { rank, lane, row, cells, event: single, kind: cell.kind[cells[0]], start, duration: reply.nsPerPixel };
  }

  hover(x, y) {
    this.scene.pointerX = x;
    const hit = this.at(x, y);
    this.hovered = hit;
    this.canvas.style.cursor = hit?.event !== undefined ? "pointer" : "";
    clearTimeout(this.hoverTimer);
    if (!hit) this.tooltip.hide();
    else if (hit.event === undefined) this.showMerged(x, y, hit);
    else this.hoverTimer = setTimeout(() => this.showEvent(x, y, hit), DETAILS_DELAY_MS);
    this.redraw();
  }

  showMerged(x, y, { rank, cells }) {
    const { cell } = this.scene.reply;
    const { title, lines, idle } = describeCells(cell, cells, this.lanes.kinds);
    const rows = [["rank", rank], ...lines, ["nothing", `${Math.round(100 * idle)} % of the pixel`]];
    const list = element("dl", { className: "fields" }, rows.flatMap(([name, text]) => [
      element("dt", { text: name }),
      element("dd", { text }),
    ]));
    this.tooltip.show(x, y, title, this.scene.colours.kind[cell.kind[cells[0]]], list);
  }

  async showEvent(x, y, hit) {
    const details = await this.source.event(hit.rank, hit.event).catch(() => null);
    if (this.hovered !== hit || !details) return;
    const fields = plain(details);
    this.tooltip.show(x, y, eventTitle(fields), this.colourOf(fields.kind), fieldList(details));
  }

  // --- selection -------------------------------------------------------------------------------

  click(x, y) {
    const hit = this.at(x, y);
    if (hit?.event !== undefined) this.choose({ rank: hit.rank, row: hit.event });
    else if (hit) this.zoom(1 / 8, x - GUTTER); // a merged pixel: look closer
    else this.choose(null);
    this.frame.focus({ preventScroll: true });
  }

  clickAxis(x) {
    const ns = this.view.time(x - GUTTER);
    const steps = this.scene.stepsOf.get(this.scene.layout.blocks[0]?.rank) ?? [];
    const step = steps.find(({ start, duration }) => ns >= start && ns < start + duration);
    if (step) this.goToOneStep(step.step);
  }

  /** Select an event, or nothing; the URL then says so, and `followUrl` shows it. */
  choose(event) {
    this.tooltip.hide();
    this.goToSelected = Boolean(event?.go);
    window.rankscope.view.set({ sel: event ? `${event.rank}.${event.row}` : null });
  }

  async showSelection(text) {
    if (text === this.selection) return;
    this.selection = text;
    const details = text ? await this.source.event(...text.split(".")).catch(() => null) : null;
    if (this.selection !== text) return;
    this.selected = details;
    const panel = this.part("details");
    if (details) showDetails(panel, details, (kind) => this.colourOf(kind), (event) => this.choose(event));
    else panel.hidden = true;
    if (details && this.goToSelected) this.bringIntoView(plain(details));
    this.goToSelected = false;
    this.root.classList.toggle("has-details", Boolean(details));
    this.describe();
    this.redraw();
  }

  bringIntoView({ start, duration }) {
    if (start + duration > this.view.start && start < this.view.end) return;
    const half = (this.view.end - this.view.start) / 2;
    this.goTo(start + duration / 2 - half, start + duration / 2 + half);
  }

  zoomToSelection() {
    if (this.selected) this.zoomTo(plain(this.selected));
  }

  zoomToEvent(x, y) {
    const hit = this.at(x, y);
    if (hit) this.zoomTo(hit);
  }

  zoomTo({ start, duration }) {
    const margin = Math.max(duration, 1) * EVENT_MARGIN;
    this.goTo(start - margin, start + duration + margin);
  }

  /** The event before or after the selected one in its row, among those that are drawn. */
  selectBeside(by) {
    const { reply, layout } = this.scene;
    if (!reply || !layout.rows.length) return;
    const chosen = this.selected && plain(this.selected);
    const row = chosen ? this.rowOf(this.selected.rank, chosen.lane, chosen.start, chosen.duration) : 0;
    const from = chosen ? chosen.start : this.view.start;
    const { box } = reply;
    const places = [...Array(box.from[row + 1] - box.from[row]).keys()].map((i) => i + box.from[row]);
    const later = places.filter((i) => Math.sign(reply.start + box.start[i] - from) === by);
    const next = by > 0 ? later[0] : later.at(-1);
    if (next !== undefined) this.choose({ rank: layout.rows[row].lane.rank, row: box.event[next], go: true });
  }

  // --- legend, help, spoken summary --------------------------------------------------------------

  buildLegend() {
    const buttons = this.lanes.present.map((kind) => {
      const button = element("button", { type: "button", className: "legend-item", "data-kind": kind, title: "Show or hide" }, [
        element("span", { className: "swatch" }),
        document.createTextNode(kindTitle(kind)),
      ]);
      button.addEventListener("click", () => this.toggleKind(kind));
      return button;
    });
    this.part("legend").replaceChildren(...buttons);
  }

  toggleKind(kind) {
    const index = this.kindIndex.get(kind);
    const hidden = new Set(this.scene.hidden);
    if (!hidden.delete(index)) hidden.add(index);
    const names = [...hidden].map((code) => this.lanes.kinds[code]).sort();
    window.rankscope.view.set({ hide: names.join("|") });
  }

  toggleHelp() {
    const box = this.part("help-box");
    box.hidden = !box.hidden;
    this.part("help").setAttribute("aria-expanded", String(!box.hidden));
  }

  escape() {
    const box = this.part("help-box");
    if (!box.hidden) this.toggleHelp();
    else this.choose(null);
  }

  describe() {
    const { view } = this;
    const range = `${formatMoment(view.start, view)} – ${formatMoment(view.end, view)}`;
    this.part("range").textContent = `${range} · ${formatNs(view.end - view.start)} wide`;
  }

  // --- server and URL ----------------------------------------------------------------------------

  request(start, end, width) {
    return { start: Math.floor(start), end: Math.ceil(end), width: Math.min(MAX_QUERY_WIDTH, Math.round(width)), firstRow: 0, endRow: this.lanes.rows };
  }

  async fetchWindow() {
    const { view, scene } = this;
    const span = view.end - view.start;
    const { reply } = scene;
    const covered = reply && reply.start <= view.start && reply.end >= view.end;
    const wanted = view.nsPerPixel / scene.ratio;
    if (covered && Math.abs(reply.nsPerPixel / wanted - 1) < 0.01) return;
    const width = view.width * scene.ratio * (1 + 2 * OVERSCAN);
    const asked = this.request(view.start - span * OVERSCAN, view.end + span * OVERSCAN, width);
    await this.take(this.source.window(asked), (fresh) => { scene.reply = fresh; });
  }

  async fetchOverview() {
    const [start, end] = this.lanes.span;
    const asked = this.request(start, end, this.view.width * this.scene.ratio);
    await this.take(this.source.once(asked), (fresh) => { this.scene.overview = fresh; });
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
    const edges = [Math.max(0, this.view.start), Math.max(1, this.view.end)].map(Math.round);
    const whole = new View(this.lanes.span);
    whole.fit();
    const all = edges[0] <= Math.max(0, whole.start) && edges[1] >= whole.end;
    window.rankscope.view.set({ t0: all ? null : edges[0], t1: all ? null : edges[1] }, { replace });
  }

  /** Show what the URL says: at the start, on Back, and after `rankscope.view.set`. */
  followUrl() {
    if (!this.root.isConnected) {
      this.end();
      return;
    }
    const query = window.rankscope.view.get();
    clearTimeout(this.urlTimer);
    const [start, end] = this.windowOf(query);
    const away = Math.abs(start - this.view.start) + Math.abs(end - this.view.end);
    if (away > this.view.nsPerPixel) this.view.set(start, end);
    const names = (query.get("hide") ?? "").split("|");
    this.scene.hidden = new Set(names.filter((kind) => this.kindIndex.has(kind)).map((kind) => this.kindIndex.get(kind)));
    for (const button of this.part("legend").children) {
      const shown = !this.scene.hidden.has(this.kindIndex.get(button.dataset.kind));
      button.setAttribute("aria-pressed", String(shown));
    }
    this.showSelection(query.get("sel"));
    this.changed();
  }

  windowOf(query) {
    if (query.has("t0") && query.has("t1")) return [Number(query.get("t0")), Number(query.get("t1"))];
    const [first, last = first] = (query.get("steps") ?? "").split("-").filter(Boolean).map(Number);
    const chosen = this.lanes.steps.filter(([, step]) => step >= first && step <= last);
    if (!chosen.length) {
      const whole = new View(this.lanes.span);
      whole.fit();
      return [whole.start, whole.end];
    }
    return [
      Math.min(...chosen.map(([, , start]) => start)),
      Math.max(...chosen.map(([, , start, duration]) => start + duration)),
    ];
  }
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
