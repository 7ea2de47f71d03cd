// What the timeline says: tooltips, the details panel, the spoken summary. Text nodes only, so
// that nothing from a trace is ever read as HTML.
import { formatBytes, formatNs } from "./scale.mjs";

const TITLES = { backward_input: "backward (input)", backward_weight: "backward (weight)" };
const TIMES = new Set(["start", "duration"]);
const LABELS = { microbatch: "microbatch", peer: "peer rank", seq: "sequence" };
const HIDDEN = new Set(["kind"]); // it is the title

export const kindTitle = (kind) => TITLES[kind] ?? kind;

export function element(tag, { text, className, ...attributes } = {}, children = []) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** `forward 0F3`-like title of an event: its kind, name and microbatch. */
export function eventTitle(fields) {
  const number = fields.microbatch === undefined ? "" : `, microbatch ${fields.microbatch}`;
  return `${kindTitle(fields.kind)}${number}`;
}

/** Details as the server sends them → `{kind: …, start: …}`. */
export const plain = ({ fields }) => Object.fromEntries(fields.map(({ name, value }) => [name, value]));

/** Rows of a definition list: all fields of an event. */
export function fieldList(details) {
  const list = element("dl", { className: "fields" });
  const shown = details.fields.filter(({ name }) => !HIDDEN.has(name));
  const facts = [{ name: "rank", value: details.rank, meaning: "global rank" }, ...shown];
  for (const { name, value, meaning } of facts) {
    list.append(
      element("dt", { text: LABELS[name] ?? name, title: meaning }),
      element("dd", { text: formatField(name, value) }, exactly(name, value)),
    );
  }
  return list;
}

/** Rows of a definition list: `[[name, value], …]`. */
export function pairs(rows) {
  const parts = rows.flatMap(([name, value]) => [
    element("dt", { text: name }),
    element("dd", { text: String(value) }),
  ]);
  return element("dl", { className: "fields" }, parts);
}

function formatField(name, value) {
  if (TIMES.has(name)) return formatNs(value);
  if (name === "bytes") return formatBytes(value);
  return typeof value === "number" ? value.toLocaleString("en-US") : String(value);
}

/** Times and sizes are rounded to be read; behind them stands the whole number. */
function exactly(name, value) {
  const unit = TIMES.has(name) ? "ns" : name === "bytes" && value >= 1000 ? "bytes" : null;
  return unit ? [element("small", { text: ` ${value.toLocaleString("en-US")} ${unit}` })] : [];
}

/** Merged pixels: `214 events, 93 % forward`, and a line per kind. `cells`: places in `cell`. */
export function describeCells(cell, cells, kinds) {
  const count = cells.reduce((sum, i) => sum + cell.count[i], 0);
  const fill = cells.reduce((sum, i) => sum + cell.fill[i], 0);
  const parts = cells
    .map((i) => ({ kind: kinds[cell.kind[i]], count: cell.count[i], fill: cell.fill[i] }))
    .sort((a, b) => b.fill - a.fill || b.count - a.count);
  const share = fill > 0 ? `, ${Math.round((100 * parts[0].fill) / fill)} % ` : ", ";
  const events = count === 1 ? "1 event" : `${count.toLocaleString("en-US")} events`;
  return {
    title: count === 0 ? `the end of ${kindTitle(parts[0].kind)}` : `${events}${share}${kindTitle(parts[0].kind)}`,
    lines: parts.map((part) => [kindTitle(part.kind), part.fill]),
    idle: Math.max(0, 1 - fill),
  };
}

/** A floating box beside the pointer that stays within `frame`. */
export class Tooltip {
  constructor(box, frame) {
    this.box = box;
    this.frame = frame;
  }

  show(x, y, title, colour, body) {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colour;
    this.box.replaceChildren(
      element("div", { className: "tooltip-title" }, [swatch, document.createTextNode(title)]),
      body,
    );
    this.box.hidden = false;
    const { offsetWidth: wide, offsetHeight: tall } = this.box;
    const right = x + 16 + wide < this.frame.clientWidth;
    const left = right ? x + 16 : Math.max(4, x - wide - 16);
    const top = Math.min(y + 14, Math.max(4, this.frame.clientHeight - tall - 4));
    this.box.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  hide() {
    this.box.hidden = true;
  }
}

/** The panel beside the lanes: all fields of the selected event, and its relatives as buttons. */
export function showDetails(panel, details, colourOf, choose) {
  const fields = plain(details);
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = colourOf(fields.kind);
  const close = element("button", { text: "×", className: "icon-button", "aria-label": "Close details", type: "button" });
  close.addEventListener("click", () => choose(null));
  const head = element("h2", {}, [swatch, document.createTextNode(eventTitle(fields)), close]);
  panel.replaceChildren(head, fieldList(details));
  if (details.related.length) {
    panel.append(element("h3", { text: "Same operation" }), relatives(details.related, choose));
  }
  if (details.left_out) {
    panel.append(element("p", { className: "muted", text: `and ${details.left_out} more` }));
  }
  panel.hidden = false;
}

function relatives(related, choose) {
  const items = related.map((other) => {
    const where = `rank ${other.rank} · ${other.lane}`;
    const button = element("button", { className: "relative", type: "button" }, [
      element("span", { text: `${kindTitle(other.kind)} ${other.kind === other.name ? "" : other.name}` }),
      element("span", { text: formatNs(other.duration), className: "num" }),
      element("small", { text: where }),
    ]);
    button.addEventListener("click", () => choose({ rank: other.rank, row: other.row, go: true }));
    return element("li", {}, [button]);
  });
  return element("ul", { className: "relatives" }, items);
}

/** The same on the other ranks, the longest first, each beside the median. */
export function showSame(panel, { rank: mine }, { ranks, left_out: leftOut, median }, choose) {
  const longest = ranks[0].duration;
  const items = ranks.map(({ rank, row, duration }) => {
    const bar = element("span", { className: "same-bar" });
    bar.style.width = `${(100 * duration) / Math.max(longest, 1)}%`;
    const over = median > 0 ? Math.round((100 * (duration - median)) / median) : 0;
    const beside = over ? `${over > 0 ? "+" : "−"}${Math.abs(over)} %` : "median";
    const attributes = { className: "relative same", type: "button" };
    if (rank === mine) attributes["aria-current"] = "true";
    const button = element("button", attributes, [
      element("span", { text: rank === mine ? `rank ${rank}, this one` : `rank ${rank}` }),
      element("span", { text: formatNs(duration), className: "num" }),
      element("small", { text: beside }),
      bar,
    ]);
    button.addEventListener("click", () => choose({ rank, row, go: true }));
    return element("li", {}, [button]);
  });
  panel.append(
    element("h3", { text: "On all ranks, the longest first" }),
    element("ul", { className: "relatives", "data-part": "same" }, items),
  );
  if (leftOut) panel.append(element("p", { className: "muted", text: `and ${leftOut} shorter ones` }));
}
