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
    this.pending = null;
  }

  async lanes() {
    return (await ask(`${this.base}/lanes`)).json();
  }

  /** The window's events; a newer call makes an older one end with null. */
  async window(asked) {
    this.pending?.abort();
    const request = new AbortController();
    this.pending = request;
    try {
      return await this.once(asked, request.signal);
    } catch (error) {
      if (request.signal.aborted) return null;
      throw error;
    } finally {
      if (this.pending === request) this.pending = null;
    }
  }

  /** The window's events, whatever else is asked meanwhile. */
  async once({ start, end, width, firstRow, endRow }, signal) {
    const query = new URLSearchParams({ t0: start, t1: end, width, row0: firstRow, row1: endRow });
    const reply = await ask(`${this.base}/window?${query}`, signal);
    return decode(await reply.arrayBuffer());
  }

  /** The critical path in a window: [rank, start, end] in order of time. */
  async path({ start, end, width }) {
    const query = new URLSearchParams({ t0: start, t1: end, width });
    return (await (await ask(`${this.base}/path?${query}`)).json()).stays;
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
  if (!reply.ok) throw new Error(await reply.text());
  return reply;
}

/** Typed arrays over the reply (dashboard/timeline/wire.py), and where each row's boxes begin. */
export function decode(buffer) {
  const headLength = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, headLength)));
  const reply = { ...head, nsPerPixel: (head.end - head.start) / head.width, box: {}, cell: {} };
  for (const [name, [type, offset, length]] of Object.entries(head.arrays)) {
    const [part, field] = name.split("_");
    reply[part][field] = new TYPES[type](buffer, 4 + headLength + offset, length);
  }
  reply.box.from = rowStarts(reply.box.row, head.end_row);
  reply.cell.from = rowStarts(reply.cell.row, head.end_row);
  return reply;
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
    }
  }
  return null;
}
