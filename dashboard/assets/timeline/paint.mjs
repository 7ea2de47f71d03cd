// Draws the lanes: backgrounds, occupancy, boxes, labels, step lines. Knows colours and pixels.
import { paintBubbles } from "./bubbles.mjs";
import { AXIS, clip, GUTTER, paintAxis, paintGutter } from "./frame.mjs";
import { paintBand, paintMarked, paintMarks } from "./marks.mjs";
import { NARROW, paintOccupancy } from "./occupancy.mjs";
import { paintPath } from "./path.mjs";
import { ticks } from "./scale.mjs";
import { paintTracksBelow } from "./tracks.mjs";

const LABEL_WIDTH = 13; // the least box that holds a microbatch number
const NAME_WIDTH = 34; // the least box that holds a name
const GAP_FROM = 4; // boxes wider than this leave a gap to the next

/** The colours of the theme, from the CSS variables that theme.py writes. */
export function readColours(kinds) {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const kind = kinds.map((name) => read(`kind-${name.replaceAll("_", "-")}`));
  return {
    kind,
    ink: kind.map((colour) => read(luminance(colour) > 0.36 ? "on-light-box" : "on-dark-box")),
    ...Object.fromEntries(
      ["page", "card", "raised", "border", "text", "muted", "grid", "accent"].map((name) => [
        name,
        read(name),
      ]),
    ),
    bubble: Object.fromEntries(
      ["warm_up", "stall", "cool_down"].map((part) => [part, read(`bubble-${part.replace("_", "-")}`)]),
    ),
    counter: ["accent", "muted", "text"].map(read),
    font: read("font"),
  };
}

function luminance(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255);
  return 0.2126 * red ** 2.2 + 0.7152 * green ** 2.2 + 0.0722 * blue ** 2.2;
}

/** Everything, once. `scene`: see timeline.mjs. */
export function paint(ctx, scene) {
  const { width, height, ratio, colours } = scene;
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.fillStyle = colours.card;
  ctx.fillRect(0, 0, width, height);
  ctx.textBaseline = "middle";
  ctx.save();
  clip(ctx, GUTTER, AXIS, width - GUTTER, height - AXIS);
  ctx.translate(GUTTER, AXIS - scene.scroll);
  paintBackgrounds(ctx, scene);
  paintEvents(ctx, scene);
  paintTracksBelow(ctx, scene);
  paintBubbles(ctx, scene);
  paintStepLines(ctx, scene);
  paintPath(ctx, scene);
  paintMarks(ctx, scene);
  ctx.restore();
  paintGutter(ctx, scene);
  paintAxis(ctx, scene);
  paintMarked(ctx, scene);
  paintBand(ctx, scene);
}

function paintBackgrounds(ctx, { layout, colours, view }) {
  ctx.fillStyle = colours.raised;
  for (const row of layout.rows) {
    if (row?.depth === 0) ctx.fillRect(0, row.y, view.width, row.height);
  }
  ctx.fillStyle = colours.grid;
  for (const { ns } of ticks(view)) {
    ctx.fillRect(Math.round(view.x(ns)), 0, 1, layout.height);
  }
}

/** The newest reply, and beside it, where it does not reach, the overview of the whole run. */
function paintEvents(ctx, scene) {
  const { view, reply, overview } = scene;
  if (!reply) {
    if (overview) paintReply(ctx, scene, overview);
    return;
  }
  const left = view.x(reply.start);
  const right = view.x(reply.end);
  if (overview && (left > 0 || right < view.width)) {
    for (const [from, to] of [[0, left], [right, view.width]]) {
      if (to <= from) continue;
      ctx.save();
      clip(ctx, from, 0, to - from, scene.layout.height);
      paintReply(ctx, scene, overview);
      ctx.restore();
    }
  }
  ctx.save();
  clip(ctx, left, 0, right - left, scene.layout.height);
  paintReply(ctx, scene, reply);
  ctx.restore();
}

/** What one reply of the server holds, at the rows of `scene.layout`. */
export function paintReply(ctx, scene, reply) {
  paintOccupancy(ctx, scene, reply);
  paintBoxes(ctx, scene, reply);
}

function paintBoxes(ctx, scene, reply) {
  const { view, layout, colours, hidden, ratio } = scene;
  const { box } = reply;
  const labels = [];
  let style = -1;
  for (let i = 0; i < box.row.length; i += 1) {
    if (box.duration[i] < NARROW * reply.nsPerPixel) continue; // part of the occupancy's picture
    const row = layout.rows[box.row[i]];
    if (!row || hidden.has(box.kind[i]) || isBeyond(scene, row)) continue;
    const [x, wide] = boxSpan(view, reply, i, ratio);
    if (x + wide < 0 || x > view.width) continue;
    if (style !== box.kind[i]) {
      style = box.kind[i];
      ctx.fillStyle = colours.kind[style];
    }
    ctx.fillRect(x, row.y + 1, wide, row.height - 2);
    if (scene.labels && wide >= LABEL_WIDTH) labels.push([i, row, x, wide]);
  }
  for (const label of labels) paintLabel(ctx, scene, reply, ...label);
}

/** Whether a row is scrolled out of sight. */
const isBeyond = ({ scroll, height }, row) =>
  scroll !== undefined && (row.y + row.height < scroll || row.y > scroll + height);

/** Left edge and width on whole device pixels, at least one wide. */
function boxSpan(view, reply, i, ratio) {
  const start = reply.start + reply.box.start[i];
  const left = snap(view.x(start), ratio);
  const right = snap(view.x(start + reply.box.duration[i]), ratio);
  const gap = right - left > GAP_FROM ? 1 : 0;
  return [left, Math.max(right - left - gap, 1 / ratio)];
}

const snap = (x, ratio) => Math.round(x * ratio) / ratio;

function paintLabel(ctx, scene, reply, i, row, x, wide) {
  const { view, colours } = scene;
  const from = Math.max(x, 0);
  const room = Math.min(x + wide, view.width) - from - 4;
  const microbatch = reply.box.microbatch[i];
  const name = reply.names[reply.box.name[i]] ?? "";
  const kind = reply.box.kind[i];
  const isCompute = scene.compute.has(kind);
  let text = isCompute && microbatch >= 0 ? String(microbatch) : "";
  if (isCompute && room >= NAME_WIDTH) text = `${name}${text}`;
  if (!isCompute && room >= NAME_WIDTH) text = kind === scene.wait ? `wait: ${name}` : name;
  if (!text) return;
  ctx.font = `${isCompute ? "600 " : ""}${row.depth === 0 ? 12 : 10.5}px ${colours.font}`;
  const fitted = shorten(ctx, text, room);
  if (!fitted) return;
  ctx.fillStyle = colours.ink[kind];
  ctx.textAlign = "center";
  ctx.fillText(fitted, from + 2 + room / 2, row.y + row.height / 2 + 0.5);
}

/** The text, or as much of its beginning as fits; a number is shown whole or not at all. */
function shorten(ctx, text, room) {
  if (ctx.measureText(text).width <= room) return text;
  if (/^\d+$/.test(text)) return "";
  const each = ctx.measureText(text).width / text.length;
  const kept = Math.floor(room / each) - 1;
  return kept >= 3 ? `${text.slice(0, kept)}…` : "";
}

function paintStepLines(ctx, { view, layout, colours, stepsOf }) {
  ctx.fillStyle = colours.text;
  ctx.globalAlpha = 0.45;
  for (const block of layout.blocks) {
    for (const step of stepsOf.get(block.rank) ?? []) {
      for (const edge of [step.start, step.start + step.duration]) {
        const x = Math.round(view.x(edge));
        if (x >= 0 && x <= view.width) ctx.fillRect(x, block.y - 3, 1, block.end - block.y + 6);
      }
    }
  }
  ctx.globalAlpha = 1;
}
