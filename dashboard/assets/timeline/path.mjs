// The critical path over the lanes: a line above the lanes of the rank it is on, and where it
// crosses to another rank, a line down or up to that one.

const THICK = 3;
const HALO = 2; // of the card's colour on either side, so that the line stands off boxes and grid
const ABOVE = 3; // pixels between a rank's first lane and the line

/** `path`: [rank, start, end] in order of time (dashboard/analysis/replay/path_stays.py). */
export function paintPath(ctx, { view, layout, colours, path }) {
  if (!path?.length) return;
  const height = new Map(layout.blocks.map((block) => [block.rank, block.y - ABOVE]));
  ctx.beginPath();
  let before = null;
  for (const [rank, start, end] of path) {
    const y = height.get(rank);
    if (y === undefined) continue;
    const [left, right] = [view.x(start), view.x(end)];
    if (before && before.end === start) ctx.lineTo(left, y);
    else ctx.moveTo(left, y);
    ctx.lineTo(right, y);
    before = { end };
  }
  ctx.lineJoin = "round";
  for (const [width, colour] of [
    [THICK + 2 * HALO, colours.card],
    [THICK, colours.text],
  ]) {
    ctx.lineWidth = width;
    ctx.strokeStyle = colour;
    ctx.stroke();
  }
}
