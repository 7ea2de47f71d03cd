// Draws what stands around the lanes: the names on their left, steps and times above them.
import { topBlock } from "./rows.mjs";
import { ticks } from "./scale.mjs";

export const GUTTER = 132;
export const AXIS = 44; // step band and time labels
const STEP_BAND = 20;
const INDENT = 8; // of a group within a group
export const GROUP_NAME_HEIGHT = 18; // of a group's name, which can be clicked

/** Only this stretch is drawn to from now on. */
export function clip(ctx, x, y, width, height) {
  ctx.beginPath();
  ctx.rect(x, y, width, height);
  ctx.clip();
}

/** Names of groups and ranks; a group that can be folded has a triangle. */
export function paintGutter(ctx, { layout, colours, height, scroll, foldable }) {
  ctx.fillStyle = colours.card;
  ctx.fillRect(0, AXIS, GUTTER, height - AXIS);
  ctx.save();
  clip(ctx, 0, AXIS, GUTTER, height - AXIS);
  ctx.translate(0, AXIS - scroll);
  ctx.textAlign = "left";
  for (const group of layout.groups) paintGroupName(ctx, group, colours, foldable);
  for (const block of layout.blocks) paintBlockName(ctx, block, layout, colours);
  ctx.restore();
  ctx.fillStyle = colours.border;
  ctx.fillRect(GUTTER - 1, AXIS, 1, height - AXIS);
}

function paintGroupName(ctx, { key, name, level, y, end, folded }, colours, foldable) {
  const x = 10 + level * INDENT;
  ctx.fillStyle = colours.border;
  ctx.fillRect(x, y, 3, end - y);
  ctx.fillStyle = level ? colours.muted : colours.text;
  ctx.font = `${level ? 500 : 600} ${level ? 11 : 12}px ${colours.font}`;
  ctx.fillText(name, x + 10, y + 10);
  if (!foldable.has(key)) return;
  ctx.fillStyle = colours.muted;
  ctx.fillText(folded ? "▸" : "▾", x + 14 + ctx.measureText(name).width, y + 10);
}

function paintBlockName(ctx, block, layout, colours) {
  const tall = block.lanesEnd - block.y;
  const y = block.head ? block.y + 10 : block.y + Math.min(10, tall / 2);
  ctx.font = `11.5px ${colours.font}`;
  ctx.fillStyle = colours.muted;
  ctx.textAlign = "right";
  ctx.fillText(`rank ${block.rank}`, GUTTER - 10, y);
  if (block.detail && tall > 24) ctx.fillText(block.detail, GUTTER - 10, y + 14);
  ctx.font = `10px ${colours.font}`;
  for (const { title, note, y: top, height } of block.tracks.values()) {
    const middle = top + height / 2;
    ctx.fillText(title, GUTTER - 10, note ? middle - 6 : middle);
    if (note) ctx.fillText(note, GUTTER - 10, middle + 6);
  }
  if (block.lanes === 1) return;
  for (const row of layout.rows) {
    if (row?.lane.rank !== block.rank || row.depth !== 0 || row.y === block.y) continue;
    ctx.fillText(row.lane.lane.replace(/^host:/, ""), GUTTER - 10, row.y + row.height / 2);
  }
}

/** Steps, and times below them. */
export function paintAxis(ctx, scene) {
  const { view, colours, width } = scene;
  ctx.fillStyle = colours.card;
  ctx.fillRect(0, 0, width, AXIS);
  ctx.save();
  clip(ctx, GUTTER, 0, width - GUTTER, AXIS);
  ctx.translate(GUTTER, 0);
  paintStepBand(ctx, scene);
  ctx.font = `11px ${colours.font}`;
  ctx.textAlign = "left";
  for (const { ns, label } of ticks(view)) {
    const x = Math.round(view.x(ns));
    ctx.fillStyle = colours.border;
    ctx.fillRect(x, STEP_BAND, 1, AXIS - STEP_BAND);
    ctx.fillStyle = colours.muted;
    ctx.fillText(label, x + 5, STEP_BAND + (AXIS - STEP_BAND) / 2);
  }
  ctx.restore();
  ctx.fillStyle = colours.border;
  ctx.fillRect(0, AXIS - 1, width, 1);
}

function paintStepBand(ctx, { view, colours, stepsOf, layout, scroll }) {
  const steps = stepsOf.get(topBlock(layout, scroll)?.rank) ?? [];
  ctx.font = `600 11px ${colours.font}`;
  ctx.textAlign = "center";
  for (const { step, start, duration } of steps) {
    const left = Math.max(view.x(start), 0);
    const right = Math.min(view.x(start + duration), view.width);
    if (right <= 0 || left >= view.width || right - left < 1) continue;
    ctx.fillStyle = step % 2 ? colours.raised : colours.grid;
    ctx.fillRect(left, 3, Math.max(right - left - 1, 1), STEP_BAND - 5);
    const text = [`step ${step}`, String(step)].find(
      (label) => ctx.measureText(label).width < right - left - 6,
    );
    if (!text) continue;
    ctx.fillStyle = colours.muted;
    ctx.fillText(text, (left + right) / 2, STEP_BAND / 2 + 0.5);
  }
}
