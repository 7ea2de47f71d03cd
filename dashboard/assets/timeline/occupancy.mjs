// Draws a reply's merged events and narrow boxes once, into a picture of its own whose columns are
// the reply's pixels. Panning and zooming then only copy from it (a few ms, however many events).

/** Boxes narrower than this many pixels of the reply are part of the picture. */
export const NARROW = 13; // no label fits into them
const GAP_FROM = 4; // boxes wider than this leave a gap to the next
const THIN = 4; // device pixels: rows lower than this have no room to stack kinds
const FAINTEST = 0.15; // what is there is seen, however little it fills
const AROUND = 0.5; // of the screen's height, drawn above and below it for scrolling
const KEPT = 3; // pictures of one reply: the lanes, the minimap, and one to spare

const pictures = new WeakMap(); // reply → the pictures made of it, the newest first

/** Copy what `scene` shows of the reply to the canvas. */
export function paintOccupancy(ctx, scene, reply) {
  const { view, ratio } = scene;
  const from = Math.max(0, Math.floor((view.start - reply.start) / reply.nsPerPixel));
  const to = Math.min(reply.width, Math.ceil((view.end - reply.start) / reply.nsPerPixel));
  const picture = to > from && pictureOf(scene, reply);
  if (!picture) return;
  const scale = (reply.nsPerPixel / view.nsPerPixel) * ratio;
  const sharp = Math.abs(scale - 1) < 0.001;
  const x = view.x(reply.start + from * reply.nsPerPixel);
  const wide = sharp ? (to - from) / ratio : ((to - from) * scale) / ratio;
  ctx.imageSmoothingEnabled = !sharp && scale < 1;
  const { canvas, top } = picture;
  const left = sharp ? Math.round(x * ratio) / ratio : x;
  const area = [left, top / ratio, wide, canvas.height / ratio];
  ctx.drawImage(canvas, from, 0, to - from, canvas.height, ...area);
}

function pictureOf(scene, reply) {
  const key = [...scene.hidden].sort().join();
  const [above, below] = visible(scene);
  const made = pictures.get(reply) ?? [];
  const found = made.find(
    (one) =>
      one.layout === scene.layout &&
      one.colours === scene.colours &&
      one.ratio === scene.ratio &&
      one.key === key &&
      one.above <= above &&
      one.below >= below,
  );
  if (found) return found;
  const picture = draw(scene, reply);
  if (!picture) return null;
  const { layout, colours, ratio } = scene;
  const around = AROUND * (below - above);
  const stretch = { above: above - around, below: below + around };
  const known = { ...picture, layout, colours, ratio, key, ...stretch };
  pictures.set(reply, [known, ...made].slice(0, KEPT));
  return known;
}

/** Which stretch of the layout is on the screen; all of it where nothing scrolls. */
function visible({ scroll, height }) {
  return scroll === undefined ? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY] : [scroll, scroll + height];
}

function draw(scene, reply) {
  const { layout, ratio, hidden, colours } = scene;
  const [above, below] = visible(scene);
  const around = scene.scroll === undefined ? 0 : AROUND * (below - above);
  const places = new Map();
  for (let row = reply.first_row; row < reply.end_row; row += 1) {
    const place = layout.rows[row];
    if (!place || place.y > below + around || place.y + place.height < above - around) continue;
    const from = Math.round((place.y + 1) * ratio);
    const height = Math.max(1, Math.round((place.height - 2) * ratio));
    places.set(row, { from, height });
  }
  if (!places.size) return null;
  const all = [...places.values()];
  const top = Math.min(...all.map(({ from }) => from));
  const bottom = Math.max(...all.map(({ from, height }) => from + height));
  const canvas = new OffscreenCanvas(reply.width, bottom - top);
  const ctx = canvas.getContext("2d");
  const image = ctx.createImageData(canvas.width, canvas.height);
  const ink = {
    pixels: new Uint32Array(image.data.buffer),
    width: reply.width,
    colour: colours.kind.map(packed),
    hidden,
  };
  for (const [row, { from, height }] of places) {
    const place = { from: from - top, height };
    if (height < THIN) drawThin(ink, sharesOf(reply, row), place);
    else if (reply.fill) drawShares(ink, reply, row, place);
    else drawCells(ink, reply, row, place);
    drawBoxes(ink, reply, row, place);
  }
  ctx.putImageData(image, 0, 0);
  return { canvas, top };
}

/** `#rrggbb` as the number that image data holds on the little-endian machines that there are. */
function packed(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** `[pixel, kind, share]` of all that a row merges. */
function* sharesOf({ fill, cell, width, grades }, row) {
  for (let series = fill?.from[row]; series < fill?.from[row + 1]; series += 1) {
    for (let x = 0; x < width; x += 1) {
      const share = fill.share[series * width + x];
      if (share) yield [x, fill.kind[series], share / grades];
    }
  }
  if (fill) return;
  for (let i = cell.from[row]; i < cell.from[row + 1]; i += 1) {
    yield [cell.pixel[i], cell.kind[i], cell.fill[i]];
  }
}

/** The kind that fills most of each pixel, as opaque as all kinds together fill it. */
function drawThin(ink, shares, { from, height }) {
  const most = new Float32Array(ink.width);
  const total = new Float32Array(ink.width);
  const kinds = new Uint8Array(ink.width);
  for (const [x, kind, share] of shares) {
    if (ink.hidden.has(kind)) continue;
    total[x] += share;
    if (share < most[x]) continue;
    most[x] = share;
    kinds[x] = kind;
  }
  for (let x = 0; x < ink.width; x += 1) {
    if (!total[x]) continue;
    const opaque = Math.round(255 * Math.min(1, Math.max(FAINTEST, total[x])));
    const colour = ((ink.colour[kinds[x]] & 0xffffff) | (opaque << 24)) >>> 0;
    for (let y = from; y < from + height; y += 1) ink.pixels[y * ink.width + x] = colour;
  }
}

/** From the bottom, each kind as high as the share of the pixel that it fills. */
function drawShares(ink, { fill, width, grades }, row, place) {
  const stacked = new Float32Array(width);
  for (let series = fill.from[row]; series < fill.from[row + 1]; series += 1) {
    const kind = fill.kind[series];
    if (ink.hidden.has(kind)) continue;
    const from = series * width;
    for (let x = 0; x < width; x += 1) {
      const share = fill.share[from + x];
      if (share) stacked[x] = stack(ink, x, x + 1, place, stacked[x], share / grades, kind);
    }
  }
}

function drawCells(ink, { cell }, row, place) {
  let pixel = -1;
  let stacked = 0;
  for (let i = cell.from[row]; i < cell.from[row + 1]; i += 1) {
    if (ink.hidden.has(cell.kind[i])) continue;
    if (cell.pixel[i] !== pixel) {
      pixel = cell.pixel[i];
      stacked = 0;
    }
    stacked = stack(ink, pixel, pixel + 1, place, stacked, cell.fill[i], cell.kind[i]);
  }
}

function drawBoxes(ink, { box, nsPerPixel, width }, row, place) {
  for (let i = box.from[row]; i < box.from[row + 1]; i += 1) {
    if (box.duration[i] >= NARROW * nsPerPixel || ink.hidden.has(box.kind[i])) continue;
    const left = Math.round(box.start[i] / nsPerPixel);
    const right = Math.round((box.start[i] + box.duration[i]) / nsPerPixel);
    const gap = right - left > GAP_FROM ? 1 : 0;
    const end = Math.min(width, Math.max(right - gap, left + 1));
    stack(ink, Math.max(0, left), end, place, 0, 1, box.kind[i]);
  }
}

/** Fill columns from `stacked` pixels above the bottom on, at least a pixel high; the new height. */
function stack(ink, left, right, { from, height }, stacked, share, kind) {
  const reached = Math.min(height, stacked + Math.max(1, share * height));
  const colour = ink.colour[kind];
  const low = from + height - Math.round(stacked);
  for (let y = from + height - Math.round(reached); y < low; y += 1) {
    const last = y * ink.width + right;
    for (let at = y * ink.width + left; at < last; at += 1) ink.pixels[at] = colour;
  }
  return reached;
}
