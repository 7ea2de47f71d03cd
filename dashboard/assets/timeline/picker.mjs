// Which event is meant: under the pointer, selected, or beside the selected one. The selection is
// in the URL (`sel`); `follow` shows what the URL says.
import { find } from "./data.mjs";
import { AXIS, GUTTER } from "./frame.mjs";
import { rowAt } from "./rows.mjs";
import { trackAt } from "./tracks.mjs";
import { describeCells, eventTitle, fieldList, pairs, plain, showDetails, showSame } from "./words.mjs";

const DETAILS_DELAY_MS = 60;
const SLACK_PIXELS = 2; // how far from a thin event the pointer may be
const percent = (share) => `${Math.round(100 * share)} % of the pixel`;

export class Picker {
  /** `t` is the Timeline of timeline.mjs. */
  constructor(t) {
    this.t = t;
    this.hovered = null;
    this.pointer = null; // where it rests on the canvas, as the arguments of `hover`
    this.text = null; // `sel` as it was last seen in the URL
    this.selected = null; // the details of that event
  }

  // --- under the pointer -----------------------------------------------------------------------

  /** The event or the merged pixel at a place of the canvas, or null. */
  at(x, y) {
    const { view, scene } = this.t;
    const { layout, scroll } = scene;
    if (x === null || x < GUTTER || y < AXIS) return null;
    const row = rowAt(layout, y - AXIS + scroll);
    const ns = view.time(x - GUTTER);
    const reply = this.replyAt(ns);
    if (row < 0 || !reply) return null;
    const found = find(reply, row, ns, SLACK_PIXELS * view.nsPerPixel);
    if (!found) return null;
    const { rank, lane } = layout.rows[row].lane;
    const hit = found.cells ? this.cells(reply, found.cells) : this.box(reply, found.box);
    return hit && { rank, lane, row, reply, ...hit };
  }

  /** The reply that is drawn at that moment: of the window, or, beside it, of the whole run. */
  replyAt(ns) {
    const { reply, overview } = this.t.scene;
    return reply && ns >= reply.start && ns < reply.end ? reply : overview;
  }

  box(reply, i) {
    const { box } = reply;
    if (this.t.scene.hidden.has(box.kind[i])) return null;
    return {
      event: box.event[i],
      kind: box.kind[i],
      start: reply.start + box.start[i],
      duration: box.duration[i],
    };
  }

  /** A merged pixel; it has an `event` if it holds only one. */
  cells(reply, places) {
    const { cell } = reply;
    const cells = places.filter((i) => !this.t.scene.hidden.has(cell.kind[i]));
    if (!cells.length) return null;
    const count = cells.reduce((sum, i) => sum + cell.count[i], 0);
    return {
      cells,
      event: count === 1 ? cell.event[cells.find((i) => cell.count[i])] : undefined,
      kind: cell.kind[cells[0]],
      start: reply.start + cell.pixel[cells[0]] * reply.nsPerPixel,
      duration: reply.nsPerPixel,
    };
  }

  hover(x, y) {
    const { scene, canvas } = this.t;
    scene.pointerX = x;
    this.pointer = x === null ? null : [x, y];
    const hit = this.at(x, y);
    this.hovered = hit;
    canvas.style.cursor = hit?.event === undefined ? "" : "pointer";
    clearTimeout(this.timer);
    if (!hit) this.showTrack(x, y);
    else if (hit.event === undefined) this.showMerged(x, y, hit);
    else this.timer = setTimeout(() => this.showEvent(x, y, hit), DETAILS_DELAY_MS);
    this.t.redraw();
  }

  /** What is drawn has changed, so what lies under a resting pointer may have too. */
  hoverAgain() {
    if (this.pointer) this.hover(...this.pointer);
  }

  /** The value of a counter or an action of the plan, where one is under the pointer. */
  showTrack(x, y) {
    const { scene, tooltip } = this.t;
    const isLanes = x !== null && x >= GUTTER && y >= AXIS;
    const found = isLanes && trackAt(scene, x - GUTTER, y - AXIS + scene.scroll);
    if (found) tooltip.show(x, y, found.title, found.colour ?? scene.colours.accent, pairs(found.rows));
    else tooltip.hide();
  }

  async showMerged(x, y, hit) {
    const { rank, reply, cells } = hit;
    const { scene, lanes, source, tooltip } = this.t;
    const { cell } = reply;
    await source.count(reply, cells).catch(() => null);
    if (this.hovered !== hit || Number.isNaN(cell.count[cells[0]])) return;
    const { title, lines, idle } = describeCells(cell, cells, lanes.kinds);
    const rows = [...lines, ["nothing", idle]].map(([name, share]) => [name, percent(share)]);
    const list = pairs([["rank", rank], ...rows]);
    tooltip.show(x, y, title, scene.colours.kind[cell.kind[cells[0]]], list);
  }

  async showEvent(x, y, hit) {
    const details = await this.t.source.event(hit.rank, hit.event).catch(() => null);
    if (this.hovered !== hit || !details) return;
    const fields = plain(details);
    this.t.tooltip.show(x, y, eventTitle(fields), this.t.colourOf(fields.kind), fieldList(details));
  }

  // --- selection -------------------------------------------------------------------------------

  click(x, y) {
    const hit = this.at(x, y);
    if (hit?.event !== undefined) this.choose({ rank: hit.rank, row: hit.event });
    else if (hit) this.t.zoom(1 / 8, x - GUTTER); // a merged pixel: look closer
    else this.choose(null);
    this.t.frame.focus({ preventScroll: true });
  }

  /** Select an event, or nothing; the URL then says so, and `follow` shows it. */
  choose(event) {
    this.hover(null, null);
    this.goThere = Boolean(event?.go);
    const sel = event ? `${event.rank}.${event.row}` : null;
    window.rankscope.view.set(sel ? { sel, mark: null, on: null } : { sel });
  }

  /** Show the selection that the URL names. */
  async follow(text) {
    if (text === this.text) return;
    this.text = text;
    const details = text ? await this.t.source.event(...text.split(".")).catch(() => null) : null;
    if (this.text !== text) return;
    this.selected = details;
    const panel = this.t.part("details");
    if (details) {
      const colourOf = (kind) => this.t.colourOf(kind);
      const choose = (event) => this.choose(event);
      showDetails(panel, details, colourOf, choose);
      this.showElsewhere(panel, details, choose);
    } else panel.hidden = true;
    if (details && this.goThere) this.bringIntoView({ rank: details.rank, ...plain(details) });
    this.goThere = false;
    this.t.redraw();
  }

  /** What the other ranks took for the same; the panel is there before that is known. */
  async showElsewhere(panel, details, choose) {
    const key = `${details.rank}/${details.row}`;
    const found = await this.t.source.beside(`same/${key}`).catch(() => null);
    const still = this.selected === details && panel.isConnected;
    if (still && found?.ranks.length > 1) showSame(panel, details, found, choose);
  }

  bringIntoView(event) {
    const { view, scene } = this.t;
    const { start, duration } = event;
    this.t.arrangement.reveal(event.rank);
    const place = scene.layout.rows[this.rowOf(event)];
    const [top, tall] = [scene.scroll, scene.height - AXIS];
    if (place && (place.y < top || place.y + place.height > top + tall)) {
      this.t.scrollBy(place.y - tall / 2 - top);
    }
    if (start + duration > view.start && start < view.end) return;
    const half = (view.end - view.start) / 2;
    this.t.goTo(start + duration / 2 - half, start + duration / 2 + half);
  }

  /** The event before (-1) or after (1) the selected one in its row, among those drawn as boxes. */
  chooseBeside(by) {
    const { reply, layout } = this.t.scene;
    const first = layout.blocks[0] && this.t.lanes.lanes.find((lane) => lane.rank === layout.blocks[0].rank);
    if (!reply || !first) return;
    const chosen = this.selected && { rank: this.selected.rank, ...plain(this.selected) };
    const row = chosen ? this.rowOf(chosen) : first.first_row;
    const from = chosen ? chosen.start : this.t.view.start;
    const { box } = reply;
    let next;
    for (let i = box.from[row]; i < box.from[row + 1]; i += 1) {
      const side = Math.sign(reply.start + box.start[i] - from);
      if (side === by && (by < 0 || next === undefined)) next = i;
    }
    if (next === undefined) return;
    this.choose({ rank: chosen?.rank ?? first.rank, row: box.event[next], go: true });
  }

  // --- outlines --------------------------------------------------------------------------------

  /** What to outline: under the pointer, selected, and the selected one's relatives. */
  marks() {
    const marks = this.hovered ? [{ ...this.hovered, isHovered: true }] : [];
    if (!this.selected) return marks;
    const chosen = { rank: this.selected.rank, ...plain(this.selected) };
    const related = this.selected.related.map((other) => ({
      ...other,
      strong: false,
      linked: other.rank !== chosen.rank,
    }));
    for (const event of [...related, { ...chosen, strong: true }]) {
      marks.push({ ...event, row: this.rowOf(event) });
    }
    return marks;
  }

  /** The row that an event is drawn in: the one of its lane that holds it, else the first. */
  rowOf({ rank, lane, start, duration }) {
    const reply = this.replyAt(start + duration / 2);
    const known = this.t.lanes.lanes.find((one) => one.rank === rank && one.lane === lane);
    if (!known) return -1;
    if (!reply) return known.first_row;
    for (let row = known.first_row; row < known.first_row + known.rows; row += 1) {
      const i = find(reply, row, start + duration / 2, 0)?.box;
      if (i === undefined) continue;
      const same = Math.abs(reply.start + reply.box.start[i] - start) < reply.unit;
      if (same && Math.abs(reply.box.duration[i] - duration) < reply.unit) return row;
    }
    return known.first_row;
  }
}
