// Folding groups of ranks and choosing their order; both are in the URL (`fold`, `order`).
import { AXIS, GROUP_NAME_HEIGHT } from "./frame.mjs";
import { foldable, groupsOfRank, workOf } from "./groups.mjs";

export class Arrangement {
  /** `t` is the Timeline of timeline.mjs. */
  constructor(t) {
    this.t = t;
    t.scene.foldable = foldable(t.lanes.lanes);
    this.read(window.rankscope.view.get());
  }

  /** What decides how rows are laid out, as text. */
  get key() {
    const { order, fold, work } = this.asked;
    return JSON.stringify([order, [...fold], [...(work ?? [])]]);
  }

  /** Do as the URL says. */
  follow(query) {
    this.read(query);
    this.t.part("order").value = this.asked.order;
    this.t.layOut();
  }

  read(query) {
    const { scene, lanes } = this.t;
    const keys = (query.get("fold") ?? "").split("|");
    const fold = new Set(keys.filter((key) => scene.foldable.has(key)));
    const order = query.get("order") ?? "mesh";
    const known = order === "work" && scene.overview;
    const work = known ? workOf(scene.overview, lanes.lanes, scene.compute) : null;
    this.asked = { order, fold, work };
  }

  /** Fold these groups and no others; those within a folded one need not be named. */
  fold(keys) {
    const named = [...keys].filter((key) => ![...keys].some((other) => key.startsWith(`${other}: `)));
    window.rankscope.view.set({ fold: named.sort().join("|") || null });
  }

  /** Fold all groups, or unfold them if some are folded. */
  foldAll() {
    this.fold(this.asked.fold.size ? [] : this.t.scene.foldable);
  }

  /** A click on the name of a group folds or unfolds it. */
  click(y) {
    const { groups } = this.t.scene.layout;
    const at = y - AXIS + this.t.scene.scroll;
    const hit = groups.findLast((group) => at >= group.y && at < group.y + GROUP_NAME_HEIGHT);
    if (!hit || !this.t.scene.foldable.has(hit.key)) return;
    const fold = new Set(this.asked.fold);
    if (!fold.delete(hit.key)) fold.add(hit.key);
    this.fold(fold);
  }

  /** Unfold what hides a rank. */
  reveal(rank) {
    if (this.t.scene.layout.blocks.some((block) => block.rank === rank)) return;
    const mine = groupsOfRank(this.t.lanes.lanes, rank);
    this.fold([...this.asked.fold].filter((key) => !mine.includes(key)));
  }

  /** The ranks whose rows touch that stretch of the canvas; none above the rows. */
  blocksBetween(top, bottom) {
    if (top < AXIS) return [];
    const [from, to] = [top, bottom].map((y) => y - AXIS + this.t.scene.scroll);
    return this.t.scene.layout.blocks.filter((block) => block.end > from && block.y < to);
  }
}
