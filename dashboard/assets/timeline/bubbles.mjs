// Bubbles over the lanes of the ranks that have them: hatched by what they are.

const HATCH = 8; // pixels from line to line
const LABEL_FROM = 46; // pixels that the name of a part needs
const NAMES = { warm_up: "warm-up", stall: "stall", cool_down: "cool-down" };
const SLANT = { warm_up: 1, stall: 0, cool_down: -1 }; // told apart without colours, too

/** `bubbles`: [rank, start, end, part] (dashboard/analysis/whole_run/overlays.py). */
export function paintBubbles(ctx, { view, layout, colours, bubbles }) {
  if (!bubbles?.length) return;
  const blocks = new Map(layout.blocks.map((block) => [block.rank, block]));
  for (const [rank, start, end, part] of bubbles) {
    const block = blocks.get(rank);
    const [left, right] = [Math.max(view.x(start), 0), Math.min(view.x(end), view.width)];
    if (!block || right <= left) continue;
    const place = { left, right, top: block.y, bottom: block.lanesEnd };
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, place.top, right - left, place.bottom - place.top);
    ctx.clip();
    paintOne(ctx, place, colours.bubble[part], SLANT[part]);
    if (right - left >= LABEL_FROM) paintName(ctx, place, NAMES[part], colours);
    ctx.restore();
  }
}

function paintOne(ctx, { left, right, top, bottom }, colour, slant) {
  ctx.fillStyle = colour;
  ctx.globalAlpha = 0.26;
  ctx.fillRect(left, top, right - left, bottom - top);
  ctx.globalAlpha = 0.45;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1;
  ctx.beginPath();
  const tall = bottom - top;
  // lines are fixed to the screen's pixels, so that they do not swim as the window moves
  const from = Math.floor((left - tall) / HATCH) * HATCH;
  for (let x = from; x < right + tall; x += HATCH) {
    ctx.moveTo(x, slant < 0 ? top : bottom);
    ctx.lineTo(x + Math.abs(slant) * tall, slant < 0 ? bottom : top);
  }
  ctx.stroke();
  ctx.globalAlpha = 1;
}

function paintName(ctx, { left, right, bottom }, name, colours) {
  ctx.font = `600 10.5px ${colours.font}`;
  ctx.textAlign = "center";
  const wide = ctx.measureText(name).width + 8;
  if (wide > right - left) return;
  const middle = (left + right) / 2;
  ctx.fillStyle = colours.card;
  ctx.fillRect(middle - wide / 2, bottom - 15, wide, 14);
  ctx.fillStyle = colours.text;
  ctx.fillText(name, middle, bottom - 7.5);
}
