// In which order ranks are shown, in which groups of the mesh, and which groups are folded into
// their first rank. In the URL: `order=rank|work`, `fold=` with the groups' keys between bars.

/** `[{rank, lanes, groups: [{key, name}], folded}]` from top to bottom. `folded` is how many ranks
 * it stands for beside itself; those are left out. Groups are the stage and, where ranks of a stage
 * differ in more than one dimension, all of those but the last: `stage 1`, in it `dp 0`. */
export function arrange(lanes, { order, fold, work }) {
  const ranks = ranksOf(lanes);
  if (order === "rank") return flat(ranks.sort((a, b) => a.rank - b.rank));
  if (order === "work") {
    const most = (one) => work?.get(one.rank) ?? 0;
    return flat(ranks.sort((a, b) => most(b) - most(a) || a.rank - b.rank));
  }
  const dimensions = dimensionsOf(lanes);
  for (const one of ranks) one.groups = groupsOf(one, dimensions);
  byMesh(ranks, dimensions);
  const shown = [];
  const first = new Map(); // key of a folded group → what stands for it
  for (const one of ranks) {
    const into = one.groups.find(({ key }) => fold.has(key))?.key;
    const standsFor = first.get(into);
    if (standsFor) standsFor.folded += 1;
    else shown.push(one);
    if (into && !standsFor) first.set(into, one);
  }
  for (const one of shown) {
    // what is in a folded group is not told apart further
    const until = one.groups.findIndex(({ key }) => fold.has(key));
    if (until >= 0) one.groups = one.groups.slice(0, until + 1);
  }
  return shown;
}

/** The keys of all groups that hold more than one rank. */
export function foldable(lanes) {
  const dimensions = dimensionsOf(lanes);
  const members = new Map();
  for (const one of ranksOf(lanes)) {
    for (const { key } of groupsOf(one, dimensions)) members.set(key, (members.get(key) ?? 0) + 1);
  }
  return new Set([...members].filter(([, count]) => count > 1).map(([key]) => key));
}

/** The groups of one rank, by key. */
export function groupsOfRank(lanes, rank) {
  const one = ranksOf(lanes).find((other) => other.rank === rank);
  return one ? groupsOf(one, dimensionsOf(lanes)).map(({ key }) => key) : [];
}

/** How long each rank computes, ns, of what a reply of the whole run shows: Map by rank. */
export function workOf(reply, lanes, compute) {
  const work = new Map();
  const add = (rank, ns) => work.set(rank, (work.get(rank) ?? 0) + ns);
  for (const { rank, first_row: row } of lanes) {
    for (let i = reply.box.from[row]; i < reply.box.from[row + 1]; i += 1) {
      if (compute.has(reply.box.kind[i])) add(rank, reply.box.duration[i]);
    }
    for (let i = reply.cell.from[row]; i < reply.cell.from[row + 1]; i += 1) {
      if (compute.has(reply.cell.kind[i])) add(rank, reply.cell.fill[i] * reply.nsPerPixel);
    }
    for (let i = reply.fill?.from[row]; i < reply.fill?.from[row + 1]; i += 1) {
      if (!compute.has(reply.fill.kind[i])) continue;
      const share = reply.fill.share.subarray(i * reply.width, (i + 1) * reply.width);
      const filled = share.reduce((sum, grade) => sum + grade, 0) / reply.grades;
      add(rank, filled * reply.nsPerPixel);
    }
  }
  return work;
}

/** In place: stages as they come, in them by the dimensions that name the groups. */
function byMesh(ranks, dimensions) {
  const stages = [...new Set(ranks.map(({ groups }) => groups[0]?.key))];
  const place = (one) => [
    stages.indexOf(one.groups[0]?.key),
    ...dimensions.map((name) => one.coordinates.get(name) ?? -1),
    one.rank,
  ];
  const places = new Map(ranks.map((one) => [one, place(one)]));
  ranks.sort((a, b) => {
    const [mine, other] = [places.get(a), places.get(b)];
    const at = mine.findIndex((number, i) => number !== other[i]);
    return at < 0 ? 0 : mine[at] - other[at];
  });
}

function ranksOf(lanes) {
  const ranks = new Map();
  for (const lane of lanes) {
    if (!ranks.has(lane.rank)) {
      const { rank, stages, pp } = lane;
      const coordinates = new Map(lane.coordinates);
      ranks.set(rank, { rank, stages, pp, coordinates, lanes: [], groups: [], folded: 0 });
    }
    ranks.get(lane.rank).lanes.push(lane);
  }
  return [...ranks.values()];
}

/** Without groups a rank says itself on which stage it is. */
function flat(ranks) {
  for (const one of ranks) one.stage = stageName(one.stages);
  return ranks;
}

/** The dimensions of the mesh beside the pipeline's in which ranks differ, the innermost last. */
export function dimensionsOf(lanes) {
  const places = lanes.map((lane) => new Map(lane.coordinates));
  const differ = (name) => new Set(places.map((place) => place.get(name))).size > 1;
  return [...(places[0]?.keys() ?? [])].filter(differ);
}

const stageName = (stages) => {
  if (stages.length === 0) return "";
  return stages.length === 1 ? `stage ${stages[0]}` : `stages ${stages.join(", ")}`;
};

function groupsOf({ stages, pp, coordinates }, dimensions) {
  const stage = stageName(stages) || (pp === null ? "" : `pp ${pp}`);
  const groups = stage ? [{ key: stage, name: stage }] : [];
  if (dimensions.length < 2) return groups;
  const name = dimensions
    .slice(0, -1)
    .map((dimension) => `${dimension} ${coordinates.get(dimension) ?? "?"}`)
    .join(" · ");
  return [...groups, { key: `${stage}: ${name}`, name }];
}
