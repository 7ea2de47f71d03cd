// What the server knows of the timeline: lanes, the events of a window, one event's details.

const TYPES = {
  f8: Float64Array,
  f4: Float32Array,
  i4: Int32Array,
  u4: Uint32Array,
  u2: Uint16Array,
  u1: Uint8Array,
};
const MAX_KEPT_EVENTS = 500;

export class Source {
  constructor(run) {
    this.base = `/api/timeline/${run}`;
    this.events = new Map();
    this.pending = new Map(); // by what is asked for
  }

  async lanes() {
    return (await ask(`${this.base}/lanes`)).json();
  }

  /** The window's events; a newer call makes an older one end with null. */
  window(asked) {
    return this.newest("window", (signal) => this.once(asked, signal));
  }

  /** The window's events, whatever else is asked meanwhile. */
  async once({ start, end, width, firstRow, endRow }, signal) {
    const query = new URLSearchParams({ t0: start, t1: end, width, row0: firstRow, row1: endRow });
    const reply = await ask(`${this.base}/window?${query}`, signal);
    return decode(await reply.arrayBuffer());
  }

  /** What one of the routes of timeline_overlays.py says; null once the route is asked anew. */
  beside(route, asked = {}) {
    const url = `${this.base}/${route}?${new URLSearchParams(asked)}`;
    return this.newest(route, async (signal) => (await ask(url, signal)).json());
  }

  async newest(what, get) {
    this.pending.get(what)?.abort();
    const request = new AbortController();
    this.pending.set(what, request);
    try {
      return await get(request.signal);
    } catch (error) {
      if (request.signal.aborted) return null;
      throw error;
    } finally {
      if (this.pending.get(what) === request) this.pending.delete(what);
    }
  }

  /** Make sure that it is known how many events these cells of one pixel hold. */
  async count({ cell, start, nsPerPixel }, cells) {
    if (cells.every((i) => !Number.isNaN(cell.count[i]))) return;
    const from = start + cell.pixel[cells[0]] * nsPerPixel;
    const query = new URLSearchParams({ row: cell.row[cells[0]], t0: from, t1: from + nsPerPixel });
    const { count, event } = await (await ask(`${this.base}/merged?${query}`)).json();
    for (const i of cells) {
      cell.count[i] = count[cell.kind[i]];
      if (cell.count[i]) cell.event[i] = event;
    }
  }

  /** All fields of one event. */
  async event(rank, row) {
    const key = `${rank}.${row}`;
    if (!this.events.has(key)) {
      if (this.events.size >= MAX_KEPT_EVENTS) this.events.delete(this.events.keys().next().value);
      const details = ask(`${this.base}/event/${rank}/${row}`).then((reply) => reply.json());
      details.catch(() => this.events.delete(key));
      this.events.set(key, details);
    }
    return this.events.get(key);
  }
}

async function ask(url, signal) {
  const reply = await fetch(url, { signal });
  if (!reply.ok) {
    const refused = reply.status < 500; // asking again would not help
    throw Object.assign(new Error(await reply.text()), { refused });
  }
  return reply;
}

/** The reply as typed arrays (dashboard/timeline/wire.py says how it is packed), and where each
 * row's boxes and cells begin. From afar `fill` takes the place of the cells: a series per row and
 * kind, and its share of each pixel, `share[series * width + pixel] / grades`. */
export function decode(buffer) {
  const headLength = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, headLength)));
  const nsPerPixel = (head.end - head.start) / head.width;
  const reply = { ...head, nsPerPixel, box: {}, cell: {}, fill: null };
  for (const [name, place] of Object.entries(head.arrays)) {
    const [part, field] = name.split("_");
    reply[part] ??= {};
    reply[part][field] = unpack(buffer, 4 + headLength, place);
  }
  const { box, cell, fill } = reply;
  if (head.unit !== 1) {
    box.start = Float64Array.from(box.start, (units) => units * head.unit);
    box.duration = Float64Array.from(box.duration, (units) => units * head.unit);
  }
  cell.fill = Float32Array.from(cell.fill, (grade) => grade / head.grades);
  box.from = rowStarts(box.row, head.end_row);
  cell.from = rowStarts(cell.row, head.end_row);
  if (fill) {
    fill.from = rowStarts(fill.row, head.end_row);
    for (const field of ["row", "pixel", "kind", "count", "fill", "event"]) cell[field] = [];
    cell.known = new Map();
  }
  return reply;
}

/** Bytes that lie in planes → values; differences → the values that they add up to. */
function unpack(buffer, base, [type, offset, length, differs]) {
  const planes = new Uint8Array(buffer, base + offset, length * TYPES[type].BYTES_PER_ELEMENT);
  const values = new TYPES[type](length);
  const bytes = new Uint8Array(values.buffer);
  const size = values.BYTES_PER_ELEMENT;
  if (size === 1) bytes.set(planes);
  else {
    for (let plane = 0, from = 0; plane < size; plane += 1) {
      for (let to = plane; to < bytes.length; to += size, from += 1) bytes[to] = planes[from];
    }
  }
  return differs ? added(values) : values;
}

function added(folded) {
  const sums = new Float64Array(folded.length);
  let sum = 0;
  for (let i = 0; i < folded.length; i += 1) {
    const value = folded[i];
    sum += value % 2 ? -(value + 1) / 2 : value / 2;
    sums[i] = sum;
  }
  return sums;
}

function rowStarts(rowOf, rows) {
  const from = new Uint32Array(rows + 1);
  for (const row of rowOf) from[row + 1] += 1;
  for (let row = 0; row < rows; row += 1) from[row + 1] += from[row];
  return from;
}

/** What lies at a moment of a row: `{box}` (its place), `{cells}` (their places), or null. */
export function find(reply, row, ns, slackNs) {
  if (row < reply.first_row || row >= reply.end_row) return null;
  const { box, cell } = reply;
  const at = ns - reply.start;
  for (let i = box.from[row]; i < box.from[row + 1]; i += 1) {
    if (box.start[i] > at) break;
    if (at < box.start[i] + box.duration[i]) return { box: i };
  }
  const slack = Math.max(0, Math.ceil(slackNs / reply.nsPerPixel));
  const pixel = Math.floor(at / reply.nsPerPixel);
  for (let away = 0; away <= slack; away += 1) {
    for (const wanted of away ? [pixel - away, pixel + away] : [pixel]) {
      const cells = [];
      for (let i = cell.from[row]; i < cell.from[row + 1] && cell.pixel[i] <= wanted; i += 1) {
        if (cell.pixel[i] === wanted) cells.push(i);
      }
      if (cells.length) return { cells };
      const merged = reply.fill ? cellsFromAfar(reply, row, wanted) : [];
      if (merged.length) return { cells: merged };
    }
  }
  return null;
}

/** The cells of a pixel whose shares came as `fill`, as places in `reply.cell`. How many events
 * they hold is not known (NaN) until `Source.count` has asked. */
function cellsFromAfar({ cell, fill, width, grades }, row, pixel) {
  if (pixel < 0 || pixel >= width) return [];
  const key = row * width + pixel;
  if (!cell.known.has(key)) {
    const places = [];
    for (let i = fill.from[row]; i < fill.from[row + 1]; i += 1) {
      const share = fill.share[i * width + pixel];
      if (!share) continue;
      places.push(cell.row.length);
      cell.row.push(row);
      cell.pixel.push(pixel);
      cell.kind.push(fill.kind[i]);
      cell.count.push(Number.NaN);
      cell.fill.push(share / grades);
      cell.event.push(undefined);
    }
    cell.known.set(key, places);
  }
  return cell.known.get(key);
}
