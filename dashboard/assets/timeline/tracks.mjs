// Rows below a rank's lanes that are no lanes: the plan as a ghost, and counters as areas.
import { formatBytes, formatNs } from "./scale.mjs";
import { kindTitle } from "./words.mjs";

const NUMBER_FROM = 13; // pixels that a microbatch number needs
const PLAN_HEIGHT = 20;
const COUNTER_HEIGHT = 34;

/** Which rows each rank gets: `[{name, title, note, height}]`. */
export function trackRows({ plan, counters }) {
  const rows = plan?.actions.length ? [{ name: "plan", title: "plan", height: PLAN_HEIGHT }] : [];
  for (const { name, most, unit } of counters ?? []) {
    if (rows.some((row) => row.name === name)) continue;
    const note = `up to ${formatCounter(topOf(most, unit), unit)}`;
    rows.push({ name, title: name.replace("memory.", ""), note, height: COUNTER_HEIGHT });
  }
  return rows;
}

/** `plan`: actions [rank, start, end, kind, microbatch]; `counters`: a series per rank and name
 * (dashboard/analysis/whole_run/overlays.py). */
export function paintTracksBelow(ctx, scene) {
  const blocks = new Map(scene.layout.blocks.map((block) => [block.rank, block]));
  for (const action of scene.plan?.actions ?? []) {
    const row = blocks.get(action[0])?.tracks.get("plan");
    if (row) paintPlanned(ctx, scene, row, action);
  }
  const names = trackRows({ counters: scene.counters }).map(({ name }) => name);
  for (const series of scene.counters ?? []) {
    const row = blocks.get(series.rank)?.tracks.get(series.name);
    const colour = scene.colours.counter[names.indexOf(series.name) % scene.colours.counter.length];
    if (row) paintCounter(ctx, scene, row, series, colour);
  }
}

/** What a track says at a place of the lanes (pixels from their top left): `{title, colour, rows}`,
 * or null. */
export function trackAt(scene, x, y) {
  const ns = scene.view.time(x);
  const block = scene.layout.blocks.find((one) => y >= one.lanesEnd && y <= one.end);
  const inside = ([, track]) => y >= track.y && y < track.y + track.height;
  const [name] = [...(block?.tracks ?? [])].find(inside) ?? [];
  if (name === "plan") return plannedAt(scene, block.rank, ns);
  return name ? counterAt(scene, block.rank, name, ns) : null;
}

function plannedAt({ plan, colours, kindIndex }, rank, ns) {
  const hit = plan.actions.find(([on, start, end]) => on === rank && start <= ns && ns < end);
  if (!hit) return null;
  const [, start, end, kind, microbatch] = hit;
  const rows = [["rank", rank], ["start", formatNs(start)], ["duration", formatNs(end - start)]];
  const title = `planned: ${kindTitle(kind)}, microbatch ${microbatch}`;
  return { title, colour: colours.kind[kindIndex.get(kind)], rows };
}

function counterAt({ counters }, rank, name, ns) {
  const series = counters.find((one) => one.rank === rank && one.name === name);
  const point = series?.points.findLast(([at]) => at <= ns);
  if (!point) return null;
  const rows = [["rank", rank], ["value", formatCounter(point[1], series.unit)]];
  return { title: name, rows: [...rows, ["since", formatNs(point[0])]] };
}

/** Hollow boxes, as high as the row: they are meant, and did not happen. */
function paintPlanned(ctx, { view, colours, kindIndex }, row, [, start, end, kind, microbatch]) {
  const [left, right] = [view.x(start), view.x(end)];
  if (right < 0 || left > view.width) return;
  const colour = colours.kind[kindIndex.get(kind)];
  const wide = Math.max(right - left - 1, 1);
  ctx.globalAlpha = 0.3;
  ctx.fillStyle = colour;
  ctx.fillRect(left, row.y + 2, wide, row.height - 4);
  ctx.globalAlpha = 1;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1;
  ctx.setLineDash([3, 2]);
  ctx.strokeRect(left + 0.5, row.y + 2.5, Math.max(wide - 1, 0.5), row.height - 5);
  ctx.setLineDash([]);
  if (wide < NUMBER_FROM) return;
  ctx.font = `11px ${colours.font}`;
  ctx.textAlign = "center";
  ctx.fillStyle = colours.text;
  ctx.fillText(String(microbatch), left + wide / 2, row.y + row.height / 2 + 0.5);
}

/** What the height of a counter's row stands for: the largest value of the run, or 100 %. */
const topOf = (most, unit) => (unit === "percent" ? Math.max(most, 100) : most);

/** From 0 to the top; a value holds until the next one. */
function paintCounter(ctx, { view }, row, { points, most, unit }, colour) {
  const top = topOf(most, unit);
  if (!points.length || !(top > 0)) return;
  const bottom = row.y + row.height - 1;
  const height = (value) => bottom - (Math.max(0, value) / top) * (row.height - 4);
  const edge = Math.max(view.x(points[0][0]), 0);
  ctx.beginPath();
  ctx.moveTo(edge, bottom);
  let y = bottom;
  for (const [ns, value] of points) {
    const x = Math.min(Math.max(view.x(ns), 0), view.width);
    if (y !== bottom) ctx.lineTo(x, y);
    y = height(value);
    ctx.lineTo(x, y);
  }
  const last = Math.min(view.x(points.at(-1)[0]), view.width);
  ctx.lineTo(last, bottom);
  ctx.closePath();
  ctx.globalAlpha = 0.45;
  ctx.fillStyle = colour;
  ctx.fill();
  ctx.globalAlpha = 1;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1;
  ctx.stroke();
}

export function formatCounter(value, unit) {
  if (unit === "bytes") return formatBytes(Math.round(value));
  const number = value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
  return unit === "percent" ? `${number} %` : `${number} ${unit}`;
}
