// Where each row lies: groups of the mesh from top to bottom, in them ranks, in them lanes, in them
// depths, and below a rank's lanes its tracks (the plan, counters).
import { arrange, dimensionsOf } from "./groups.mjs";

const TOP_ROW = { least: 20, most: 76 };
const LOW_SHARE = 0.6; // height of nested rows and of a rank's further lanes
const LANE_GAP = 3;
const RANK_GAP = 8;
const STAGE_GAP = 14;
const HEAD = 17; // for the name of a group, where no rank's name stands beside it

/** `{rows, blocks, groups, height}`: y and height of each row that is shown (by its number among
 * the server's rows), of each rank's block and of each group, from 0. `tracks`: rows that each rank
 * gets below its lanes; `arrangement`: see groups.mjs. */
export function layoutRows(lanes, available, { tracks, ...arrangement }) {
  const ranks = arrange(lanes, arrangement);
  const shown = ranks.flatMap((one) => one.lanes);
  const rows = shown.reduce((sum, lane) => sum + lane.rows, 0);
  const units = ranks.length + (rows - ranks.length) * LOW_SHARE;
  const below = tracks.reduce((sum, { height }) => sum + height + LANE_GAP, 0);
  const gaps = shown.length * LANE_GAP + ranks.length * (RANK_GAP + below) + 2 * STAGE_GAP;
  const ideal = (available - gaps) / Math.max(units, 1);
  const full = Math.round(Math.min(TOP_ROW.most, Math.max(TOP_ROW.least, ideal)));
  return placeRows(lanes, ranks, tracks, full, Math.round(full * LOW_SHARE));
}

function placeRows(lanes, ranks, tracks, full, low) {
  const dimensions = dimensionsOf(lanes);
  const rows = [];
  const blocks = [];
  const groups = [];
  const open = []; // the groups that the last rank was in
  let y = RANK_GAP;
  for (const one of ranks) {
    if (blocks.length) y += RANK_GAP - LANE_GAP;
    y = openGroups(one, open, groups, y);
    const block = { rank: one.rank, detail: detailOf(one, dimensions), y, tracks: new Map() };
    block.lanes = one.lanes.length;
    block.head = open.some((group) => group.y === y && group.level === 0);
    one.lanes.forEach((lane, at) => {
      for (let depth = 0; depth < lane.rows; depth += 1) {
        const height = depth === 0 && at === 0 ? full : low;
        rows[lane.first_row + depth] = { y, height, lane, depth };
        y += height;
      }
      block.lanesEnd = y;
      y += LANE_GAP;
    });
    for (const { name, title, note, height } of tracks) {
      block.tracks.set(name, { y, height, title, note });
      y += height + LANE_GAP;
    }
    block.end = y - LANE_GAP;
    for (const group of open) group.end = block.end;
    blocks.push(block);
  }
  return { rows, blocks, groups, height: y + RANK_GAP };
}

/** Close the groups that `one` is not in, open those that begin with it; where its rows begin. */
function openGroups(one, open, groups, from) {
  let y = from;
  let level = 0;
  while (level < open.length && open[level].key === one.groups[level]?.key) level += 1;
  if (level === 0 && open.length && one.groups.length) y += STAGE_GAP - RANK_GAP;
  open.length = level;
  for (; level < one.groups.length; level += 1) {
    const group = { ...one.groups[level], level, y, end: y, folded: 0 };
    open.push(group);
    groups.push(group);
    if (level > 0 || one.groups.length > 1) y += HEAD;
  }
  if (one.folded) open.at(-1).folded = one.folded;
  return y;
}

/** `tp 1`: where in the mesh a rank is, by the dimensions that its groups do not say. */
function detailOf(one, dimensions) {
  if (one.folded) return `+ ${one.folded} folded`;
  const said = one.groups.length > 1 ? dimensions.slice(-1) : dimensions;
  const place = said.map((name) => `${name} ${one.coordinates.get(name) ?? "?"}`);
  return [one.stage, ...place].filter(Boolean).join(" · ");
}

/** The block that stands at the top of the screen; undefined where there is none. */
export function topBlock(layout, scroll) {
  return layout.blocks.find((block) => block.end > scroll);
}

/** The number of the row at `y`, or -1 between rows. */
export function rowAt(layout, y) {
  return layout.rows.findIndex((row) => row && y >= row.y && y < row.y + row.height);
}

/** `[first, end)`: rows that hold all that touch the stretch from `top` to `bottom`. */
export function rowsBetween(layout, top, bottom) {
  let [first, end] = [layout.rows.length, 0];
  layout.rows.forEach((row, number) => {
    if (row.y + row.height <= top || row.y >= bottom) return;
    first = Math.min(first, number);
    end = Math.max(end, number + 1);
  });
  return first < end ? [first, end] : [layout.rows.length, layout.rows.length];
}
