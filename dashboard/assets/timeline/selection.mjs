// A marked stretch of time over some ranks, and where their time went in it. What is marked is in
// the URL: `mark=START-END` in ns, `on=0-3,5` the ranks, all where it is missing.
import { GUTTER } from "./frame.mjs";
import { formatBytes, formatNs } from "./scale.mjs";
import { element, kindTitle } from "./words.mjs";

const MARK = /^(-?\d{1,16})-(\d{1,16})$/;
const MOST_RANKS = 12; // rows of the panel's table of ranks
const COMMUNICATION = /^comm:/;

export class Selection {
  /** `t` is the Timeline of timeline.mjs. */
  constructor(t) {
    this.t = t;
    this.text = null;
    this.marked = null; // {start, end, ranks}; no ranks: all
  }

  /** Mark what the pointer went over: from one place of the canvas to another. */
  choose([x0, y0], [x1, y1]) {
    const { view, scene } = this.t;
    const edges = [x0, x1].map((x) => Math.round(view.time(Math.max(x, GUTTER) - GUTTER)));
    const [start, end] = [Math.min(...edges), Math.max(...edges)];
    if (end <= start) return;
    const touched = this.t.arrangement.blocksBetween(Math.min(y0, y1), Math.max(y0, y1));
    const all = touched.length === 0 || touched.length === scene.layout.blocks.length;
    const on = all ? null : rangesOf(touched.map(({ rank }) => rank));
    window.rankscope.view.set({ mark: `${start}-${end}`, on, sel: null });
  }

  clear() {
    window.rankscope.view.set({ mark: null, on: null });
  }

  /** Show what the URL says. */
  async follow(query) {
    const text = query.has("mark") ? `${query.get("mark")}@${query.get("on") ?? ""}` : null;
    if (text === this.text) return;
    this.text = text;
    const found = MARK.exec(query.get("mark") ?? "");
    this.marked = found && { start: Number(found[1]), end: Number(found[2]), ranks: null };
    const panel = this.t.part("statistics");
    if (!this.marked) {
      panel.hidden = true;
      this.t.redraw();
      return;
    }
    const on = query.get("on") ?? "";
    if (on) this.marked.ranks = ranksIn(on, this.t.lanes.lanes);
    const head = this.head();
    panel.replaceChildren(head, element("p", { className: "muted", text: "Adding up…" }));
    panel.hidden = false;
    this.t.redraw();
    const asked = { t0: this.marked.start, t1: this.marked.end, ranks: on };
    const taken = await this.t.feed.take(this.t.source.beside("selection", asked), (fresh) => {
      if (this.text === text) panel.replaceChildren(head, ...this.tables(fresh));
    });
    if (!taken && this.text === text) this.text = null; // so that it is asked for again
  }

  head() {
    const { start, end } = this.marked;
    const close = element("button", {
      text: "×",
      className: "icon-button",
      type: "button",
      "aria-label": "Clear the selection",
    });
    close.addEventListener("click", () => this.clear());
    const title = document.createTextNode(`${formatNs(end - start)} selected`);
    return element("h2", {}, [title, close]);
  }

  tables({ begin, end, categories, ranks, count, events, left_out: leftOut }) {
    const zoom = element("button", { text: "Zoom to it  Z", className: "tool-button", type: "button" });
    zoom.addEventListener("click", () => this.zoom());
    const on = ranks.length === 1 ? `rank ${ranks[0][0]}` : `${ranks.length} ranks`;
    const said = `${count.toLocaleString("en-US")} events on ${on}`;
    return [
      element("p", { className: "selection-facts" }, [element("span", { text: said }), zoom]),
      element("h3", { text: "Where the time went" }),
      categoryTable(categories, ranks, end - begin),
      ...(ranks.length > 1 ? [element("h3", { text: "By rank" }), rankTable(categories, ranks, end - begin)] : []),
      element("h3", { text: "Events, cut to the selection" }),
      eventTable(events),
      ...(leftOut ? [element("p", { className: "muted", text: `and ${leftOut} more names` })] : []),
    ];
  }

  zoom() {
    if (this.marked) this.t.goTo(this.marked.start, this.marked.end);
  }
}

/** `[5, 0, 1, 2]` → `0-2,5`. */
function rangesOf(ranks) {
  const ranges = [];
  for (const rank of ranks.sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last && last[1] === rank - 1) last[1] = rank;
    else ranges.push([rank, rank]);
  }
  return ranges.map(([low, high]) => (low === high ? String(low) : `${low}-${high}`)).join(",");
}

/** `0-2,5` → those of the run's ranks. */
function ranksIn(text, lanes) {
  const ranges = text.split(",").map((part) => part.split("-").map(Number));
  const isIn = ({ rank }) => ranges.some(([low, high = low]) => low <= rank && rank <= high);
  return new Set(lanes.filter(isIn).map(({ rank }) => rank));
}

const percent = (part, whole) => `${((100 * part) / whole).toFixed(1)} %`;

/** The mean over the ranks; the shares add up to 100 %. */
function categoryTable(categories, ranks, whole) {
  const rows = categories
    .map((name, i) => [name, ranks.reduce((sum, of) => sum + of[i + 1], 0) / ranks.length])
    .filter(([, ns]) => ns > 0)
    .map(([name, ns]) => {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = `var(--category-${name.replace(":", "-")})`;
      return [[swatch, document.createTextNode(categoryTitle(name))], formatNs(ns), percent(ns, whole)];
    });
  return table(["", "mean per rank", "share"], rows, "selection-categories");
}

/** Those that compute most come first; they are what the others wait for. */
function rankTable(categories, ranks, whole) {
  const work = categories.flatMap((name, i) => (/^(compute|optimizer)$/.test(name) ? [i + 1] : []));
  const communication = categories.flatMap((name, i) => (COMMUNICATION.test(name) ? [i + 1] : []));
  const idle = categories.indexOf("idle") + 1;
  const sum = (of, places) => places.reduce((total, i) => total + of[i], 0);
  const sorted = [...ranks].sort((a, b) => sum(b, work) - sum(a, work) || a[0] - b[0]);
  const rows = sorted
    .slice(0, MOST_RANKS)
    .map((of) => [
      String(of[0]),
      percent(sum(of, work), whole),
      percent(sum(of, communication), whole),
      percent(of[idle], whole),
    ]);
  const made = table(["rank", "work", "exposed comm.", "idle"], rows, "selection-ranks");
  if (ranks.length > MOST_RANKS) {
    made.createCaption().textContent = `the ${MOST_RANKS} that work most, of ${ranks.length}`;
  }
  return made;
}

function eventTable(events) {
  const rows = events.map(({ kind, name, count, duration, bytes }) => [
    kind === name ? kindTitle(kind) : `${kindTitle(kind)} ${name}`,
    count.toLocaleString("en-US"),
    formatNs(duration),
    bytes ? formatBytes(bytes) : "",
  ]);
  return table(["", "events", "time", "payload"], rows, "selection-events");
}

function table(heads, rows, className) {
  const head = element("tr", {}, heads.map((text) => element("th", { text, scope: "col" })));
  const body = rows.map((cells) =>
    element("tr", {}, cells.map((cell) => {
      const parts = Array.isArray(cell) ? cell : [document.createTextNode(cell)];
      return element("td", {}, parts);
    })),
  );
  const parts = [element("thead", {}, [head]), element("tbody", {}, body)];
  return element("table", { className: `panel-table ${className}` }, parts);
}

function categoryTitle(name) {
  return name.startsWith("comm:") ? `exposed ${name.slice(5)} comm.` : name;
}
