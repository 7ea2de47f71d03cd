// The strip below the lanes: the whole run, small, and where in it the window is. A click or a
// drag moves the window there.
import { MAX_QUERY_ROWS } from "./feed.mjs";
import { GUTTER } from "./frame.mjs";
import { paintReply } from "./paint.mjs";
import { element } from "./words.mjs";
import { View } from "./scale.mjs";

const HEIGHT = 46;
const PADDING = 7;
const TICK = 7; // height of a hit of the search
const LEAST_FRAME = 6; // pixels: a tiny window can still be seen

export class Minimap {
  /** `t` is the Timeline of timeline.mjs. */
  constructor(t) {
    this.t = t;
    this.canvas = element("canvas", { className: "timeline-minimap", "aria-hidden": "true" });
    this.canvas.style.height = `${HEIGHT}px`;
    this.ctx = this.canvas.getContext("2d", { alpha: false });
    t.frame.after(this.canvas);
  }

  listen(signal) {
    const { canvas } = this;
    const move = (event) => {
      const middle = this.view.time(event.offsetX - GUTTER);
      const half = (this.t.view.end - this.t.view.start) / 2;
      this.t.goTo(middle - half, middle + half);
    };
    canvas.addEventListener(
      "pointerdown",
      (event) => {
        canvas.setPointerCapture(event.pointerId);
        move(event);
      },
      { signal },
    );
    canvas.addEventListener("pointermove", (event) => event.buttons && move(event), { signal });
  }

  resize(width, ratio) {
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(HEIGHT * ratio);
    this.canvas.style.width = `${width}px`;
    this.view = new View(this.t.lanes.span);
    this.view.width = Math.max(1, width - GUTTER);
    this.view.fit();
    const { lanes, rows } = this.t.lanes;
    const firsts = lanes.filter((lane, i) => lane.rank !== lanes[i - 1]?.rank);
    const shown = firsts.filter((lane) => lane.first_row < MAX_QUERY_ROWS);
    this.layout = firstRows(shown, rows);
    const count = (ranks) => ranks.length.toLocaleString("en-US");
    this.label = shown.length < firsts.length ? `${count(shown)} ranks` : "whole run";
    this.canvas.title =
      shown.length < firsts.length ? `The whole run of the first ${count(shown)} of ${count(firsts)} ranks` : "";
  }

  paint() {
    const { ctx, view, layout } = this;
    const { colours, ratio, width, overview, hidden, compute } = this.t.scene;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.fillStyle = colours.card;
    ctx.fillRect(0, 0, width, HEIGHT);
    ctx.fillStyle = colours.muted;
    ctx.font = `11.5px ${colours.font}`;
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    ctx.fillText(this.label, GUTTER - 10, HEIGHT / 2);
    ctx.translate(GUTTER, 0);
    const scene = { view, layout, colours, hidden, ratio, compute, labels: false };
    if (overview) paintReply(ctx, scene, overview);
    this.paintTicks();
    this.paintFrame();
  }

  /** Where the search has found something. */
  paintTicks() {
    const { ctx, view } = this;
    const { colours, ticks } = this.t.scene;
    ctx.fillStyle = colours.accent;
    for (const ns of ticks) ctx.fillRect(Math.round(view.x(ns)), HEIGHT - TICK, 1, TICK);
  }

  paintFrame() {
    const { ctx, view } = this;
    const { colours } = this.t.scene;
    let left = Math.max(0, view.x(this.t.view.start));
    let right = Math.min(view.width, view.x(this.t.view.end));
    const lacking = Math.max(0, LEAST_FRAME - (right - left)) / 2;
    [left, right] = [left - lacking, right + lacking];
    ctx.globalAlpha = 0.66;
    ctx.fillStyle = colours.card;
    ctx.fillRect(0, 0, left, HEIGHT);
    ctx.fillRect(right, 0, view.width - right, HEIGHT);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = colours.accent;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(left + 0.75, 3, Math.max(right - left - 1.5, 1), HEIGHT - 6);
  }
}

/** A thin row for each rank: the first row of its first lane; the others are left out. */
function firstRows(firsts, count) {
  const each = (HEIGHT - 2 * PADDING) / Math.max(firsts.length, 1);
  const rows = Array.from({ length: count });
  firsts.forEach((lane, i) => {
    const y = PADDING + i * each;
    rows[lane.first_row] = { y: y - 0.5, height: each + 1, lane, depth: 0 };
  });
  return { rows };
}
