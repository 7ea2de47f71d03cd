// Steps: where they lie, and going from one to another. The run's steps, from the first rank's start
// to the last one's end, come with the lanes; those of single ranks with the window, where there is
// room for them.
import { GUTTER } from "./frame.mjs";
import { topBlock } from "./rows.mjs";

const MARGIN = 0.02; // of a step, on either side where it is shown alone
const LIVE_STEPS = 4; // shown of a run that is being recorded

/** The steps of each rank that came with a window's reply. */
export function stepsByRank({ start: from, step: { rank, number, start, duration } }) {
  const steps = new Map();
  for (let i = 0; i < rank.length; i += 1) {
    if (!steps.has(rank[i])) steps.set(rank[i], []);
    const one = { step: number[i], start: from + start[i], duration: duration[i] };
    steps.get(rank[i]).push(one);
  }
  return steps;
}

/** The first of so many places that has reached something, which all after it have as well; their
 * count if none has. */
function firstPlace(count, hasReached) {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (hasReached(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

export class Steps {
  /** `t` is the Timeline of timeline.mjs. */
  constructor(t) {
    this.t = t;
    this.sorted = null; // the steps whose `middles` and `order` these are
  }

  /** Show the step before or after the one in the middle of the view; alone, with a margin. */
  go(by) {
    const { view, lanes } = this.t;
    const { number, start, end } = lanes.steps;
    if (!number.length) return;
    const here = this.nearest((view.start + view.end) / 2);
    const alone = view.end - view.start < (end[here] - start[here]) * 1.5;
    const to = alone ? here + by : here;
    this.show(number[Math.min(number.length - 1, Math.max(0, to))]);
  }

  /** Place of the step whose middle is nearest to a moment: steps of different ranks overlap. */
  nearest(ns) {
    this.sort();
    const { middles, order } = this;
    const middle = (i) => middles[order[i]];
    const next = firstPlace(order.length, (i) => middle(i) >= ns);
    const isNext = next === 0 || (next < order.length && middle(next) - ns < ns - middle(next - 1));
    return order[isNext ? next : next - 1];
  }

  /** The steps by their middles. By their numbers these are not in order where clocks are not
   * aligned and a rank ends before the others: a step of fewer ranks is shorter at one side. */
  sort() {
    const { steps } = this.t.lanes;
    if (this.sorted === steps) return;
    this.sorted = steps;
    this.middles = Float64Array.from(steps.start, (start, i) => (start + steps.end[i]) / 2);
    this.order = Uint32Array.from(steps.start, (_, i) => i).sort((a, b) => this.middles[a] - this.middles[b]);
  }

  /** A click on the axis shows the step that is there: of the rank at the top, which the axis
   * names, or of the run, where there is no room for names. */
  click(x) {
    const { scene, view, lanes } = this.t;
    const ns = view.time(x - GUTTER);
    const named = scene.stepsOf.get(topBlock(scene.layout, scene.scroll)?.rank);
    const there = named?.find(({ start, duration }) => ns >= start && ns < start + duration);
    if (there) this.show(there.step);
    if (named || !lanes.steps.number.length) return;
    const near = this.nearest(ns);
    if (ns >= lanes.steps.start[near] && ns < lanes.steps.end[near]) this.show(lanes.steps.number[near]);
  }

  /** The window of a step over all ranks. */
  show(number) {
    const [start, end] = this.span(number, number);
    const margin = (end - start) * MARGIN;
    this.t.goTo(start - margin, end + margin);
  }

  /** The window of the last steps that every rank has told. */
  last() {
    const { told } = this.t.lanes.steps;
    return this.span(told - LIVE_STEPS + 1, told);
  }

  /** From the first start to the last end of these steps; of the run where there are none. */
  span(first, last) {
    const { number, start, end } = this.t.lanes.steps;
    let [from, to] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (let i = firstPlace(number.length, (at) => number[at] >= first); number[i] <= last; i += 1) {
      from = Math.min(from, start[i]);
      to = Math.max(to, end[i]);
    }
    return from < to ? [from, to] : this.t.lanes.span;
  }
}
