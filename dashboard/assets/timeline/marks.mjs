// Draws what is pointed at or selected: outlines, links to the other ranks of an operation, the
// marked stretch of time.
import { AXIS, clip, GUTTER } from "./frame.mjs";

const HEAD = 7; // pixels, length and half the width of an arrow's head

/** Outlines: under the pointer, selected, and what belongs to the selected event. */
export function paintMarks(ctx, scene) {
  const { view, layout, colours, marks } = scene;
  const chosen = marks.find(({ strong }) => strong);
  for (const mark of marks) if (mark.linked) paintLink(ctx, scene, chosen, mark);
  for (const { row, start, duration, strong, isHovered } of marks) {
    const place = layout.rows[row];
    if (!place) continue;
    const x = view.x(start);
    const wide = Math.max(duration / view.nsPerPixel, 2);
    ctx.lineWidth = strong ? 2.5 : 1.5;
    ctx.strokeStyle = colours.card;
    ctx.strokeRect(x - 2, place.y - 1, wide + 4, place.height + 2);
    ctx.strokeStyle = strong || isHovered ? colours.text : colours.accent;
    ctx.strokeRect(x - 0.5, place.y + 0.5, wide + 1, place.height - 1);
  }
}

/** A curve from the selected event to its counterpart on another rank; between the ends of a
 * message an arrow, from the send to the receive. */
function paintLink(ctx, { view, layout, colours }, chosen, other) {
  const ends = [chosen, other];
  if (other.kind === "send") ends.reverse();
  const [a, b] = ends.map(({ kind, row, start, duration }) => {
    const place = layout.rows[row];
    const ns = start + (kind === "wait" ? duration : duration / 2); // a wait ends by what comes
    return place && { x: view.x(ns), top: place.y, bottom: place.y + place.height };
  });
  if (!a || !b) return;
  const down = a.bottom <= b.top;
  const [from, to] = down ? [a.bottom, b.top] : [a.top, b.bottom];
  const middle = (from + to) / 2;
  const isMessage = other.kind === "send" || other.kind === "recv";
  for (const [width, colour] of [[4, colours.card], [1.75, colours.accent]]) {
    ctx.lineWidth = width;
    ctx.strokeStyle = colour;
    ctx.beginPath();
    ctx.moveTo(a.x, from);
    ctx.bezierCurveTo(a.x, middle, b.x, middle, b.x, to);
    ctx.stroke();
  }
  if (isMessage) paintHead(ctx, b.x, to, down ? -HEAD : HEAD, colours);
}

/** The head of an arrow that comes from below or above; its point is inside the box's edge. */
function paintHead(ctx, x, y, back, colours) {
  const tip = y - back / 2;
  ctx.beginPath();
  ctx.moveTo(x, tip);
  ctx.lineTo(x - HEAD * 0.75, tip + back * 1.4);
  ctx.lineTo(x + HEAD * 0.75, tip + back * 1.4);
  ctx.closePath();
  ctx.lineWidth = 2;
  ctx.strokeStyle = colours.card;
  ctx.stroke();
  ctx.fillStyle = colours.accent;
  ctx.fill();
}

/** The stretch of time that is selected, over its ranks. */
export function paintMarked(ctx, { view, layout, colours, marked, width, height, scroll }) {
  if (!marked) return;
  const left = Math.max(GUTTER, GUTTER + view.x(marked.start));
  const right = Math.min(width, GUTTER + view.x(marked.end));
  if (right <= left) return;
  ctx.save();
  clip(ctx, GUTTER, AXIS, width - GUTTER, height - AXIS);
  for (const block of layout.blocks) {
    if (marked.ranks && !marked.ranks.has(block.rank)) continue;
    const top = AXIS - scroll + block.y - 3;
    ctx.globalAlpha = 0.13;
    ctx.fillStyle = colours.accent;
    ctx.fillRect(left, top, right - left, block.end - block.y + 6);
  }
  ctx.restore();
  ctx.fillStyle = colours.accent;
  for (const edge of [marked.start, marked.end]) {
    const x = GUTTER + view.x(edge);
    if (x >= GUTTER && x <= width) ctx.fillRect(Math.round(x), 0, 1, height);
  }
}

/** The pointer's line, or the range that is being marked. */
export function paintBand(ctx, { colours, height, band, pointerX, width }) {
  if (band) {
    const left = Math.max(Math.min(band.from, band.to), GUTTER);
    const right = Math.min(Math.max(band.from, band.to), width);
    ctx.globalAlpha = 0.16;
    ctx.fillStyle = colours.accent;
    ctx.fillRect(left, band.top, right - left, band.bottom - band.top);
    ctx.globalAlpha = 1;
    ctx.fillRect(left, 0, 1, height);
    ctx.fillRect(right, 0, 1, height);
    ctx.font = `600 12px ${colours.font}`;
    ctx.textAlign = "center";
    ctx.fillStyle = colours.text;
    ctx.fillText(band.label, (left + right) / 2, AXIS + 12);
  } else if (pointerX !== null && pointerX > GUTTER) {
    ctx.globalAlpha = 0.35;
    ctx.fillStyle = colours.muted;
    ctx.fillRect(Math.round(pointerX), 0, 1, height);
    ctx.globalAlpha = 1;
  }
}
