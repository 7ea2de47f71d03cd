// Where each row lies: stages from top to bottom, in them ranks, in them lanes, in them depths.

const TOP_ROW = { least: 20, most: 76 };
const LOW_SHARE = 0.6; // height of nested rows and of a rank's further lanes
const LANE_GAP = 3;
const RANK_GAP = 8;
const STAGE_GAP = 14;

/** `{rows, blocks, groups, height}`: y and height of each row, rank block and stage, from 0. */
export function layoutRows(lanes, available) {
  const ranks = countRanks(lanes);
  const rows = lanes.reduce((sum, lane) => sum + lane.rows, 0);
  const units = ranks + (rows - ranks) * LOW_SHARE;
  const gaps = lanes.length * LANE_GAP + ranks * RANK_GAP + 2 * STAGE_GAP;
  const ideal = (available - gaps) / Math.max(units, 1);
  const full = Math.round(Math.min(TOP_ROW.most, Math.max(TOP_ROW.least, ideal)));
  return place(lanes, full, Math.round(full * LOW_SHARE));
}

export const stageName = (stages) => {
  if (stages.length === 0) return "";
  return stages.length === 1 ? `stage ${stages[0]}` : `stages ${stages.join(", ")}`;
};

/** `tp 1`: where in the mesh a rank is, by the dimensions that tell the lanes' ranks apart. */
function coordinateNames(lanes) {
  const dimensions = Object.keys(lanes[0]?.coordinates ?? {}).filter(
    (name) => name !== "pp" && new Set(lanes.map((lane) => lane.coordinates[name])).size > 1,
  );
  return ({ coordinates }) =>
    dimensions.map((name) => `${name} ${coordinates[name] ?? "?"}`).join(" · ");
}

const countRanks = (lanes) => new Set(lanes.map((lane) => lane.rank)).size;

function place(lanes, full, low) {
  const coordinateName = coordinateNames(lanes);
  const rows = [];
  const blocks = [];
  const groups = [];
  let y = RANK_GAP;
  for (const lane of lanes) {
    const name = stageName(lane.stages);
    let group = groups.at(-1);
    if (group?.name !== name) {
      if (group) y += STAGE_GAP - RANK_GAP;
      group = { name, y, end: y };
      groups.push(group);
    }
    let block = blocks.at(-1);
    if (block?.rank !== lane.rank) {
      if (block) y += RANK_GAP - LANE_GAP;
      if (group.end === group.y) group.y = y;
      block = { rank: lane.rank, detail: coordinateName(lane), lanes: 0, y, end: y };
      blocks.push(block);
    }
    block.lanes += 1;
    for (let depth = 0; depth < lane.rows; depth += 1) {
      const height = depth === 0 && block.lanes === 1 ? full : low;
      rows.push({ y, height, lane, depth });
      y += height;
    }
    block.end = y;
    group.end = y;
    y += LANE_GAP;
  }
  return { rows, blocks, groups, height: y + RANK_GAP };
}

/** The number of the row at `y`, or -1 between rows. */
export function rowAt(layout, y) {
  return layout.rows.findIndex((row) => y >= row.y && y < row.y + row.height);
}

/** `[first, end)`: the rows that touch the stretch from `top` to `bottom`. */
export function rowsBetween(layout, top, bottom) {
  const first = layout.rows.findIndex((row) => row.y + row.height > top);
  const end = layout.rows.findIndex((row) => row.y >= bottom);
  return [first < 0 ? layout.rows.length : first, end < 0 ? layout.rows.length : end];
}
