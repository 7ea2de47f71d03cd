// Steps: where they lie, and going from one to another.
import { GUTTER } from "./frame.mjs";

const MARGIN = 0.02; // of a step, on either side where it is shown alone
const LIVE_STEPS = 4; // shown of a run that is being recorded

export class Steps {
  /** `t` is the Timeline of timeline.mjs. */
  constructor(t) {
    this.t = t;
  }

  byRank() {
    const steps = new Map();
    for (const [rank, step, start, duration] of this.t.lanes.steps) {
      if (!steps.has(rank)) steps.set(rank, []);
      steps.get(rank).push({ step, start, duration });
    }
    return steps;
  }

  /** Those of the rank that stands at the top, which the axis names. */
  named() {
    const { layout, stepsOf } = this.t.scene;
    return stepsOf.get(layout.blocks[0]?.rank) ?? [];
  }

  /** Show the step before or after the one in the middle of the view; alone, with a margin. */
  go(by) {
    const { view } = this.t;
    const steps = this.named();
    if (!steps.length) return;
    const middle = (view.start + view.end) / 2;
    const at = steps.findIndex(({ start, duration }) => middle < start + duration);
    const here = at < 0 ? steps.length - 1 : at;
    const alone = view.end - view.start < steps[here].duration * 1.5;
    const to = alone ? here + by : here;
    this.show(steps[Math.min(steps.length - 1, Math.max(0, to))].step);
  }

  /** A click on the axis shows the step that is there. */
  click(x) {
    const ns = this.t.view.time(x - GUTTER);
    const step = this.named().find(({ start, duration }) => ns >= start && ns < start + duration);
    if (step) this.show(step.step);
  }

  /** The window of a step over all ranks. */
  show(number) {
    const [start, end] = this.span(number, number);
    const margin = (end - start) * MARGIN;
    this.t.goTo(start - margin, end + margin);
  }

  /** The window of the last steps that every rank has told. */
  last() {
    const lasts = [...this.t.scene.stepsOf.values()].map((steps) => steps.at(-1).step);
    const last = Math.min(...lasts);
    return this.span(last - LIVE_STEPS + 1, last);
  }

  /** From the first start to the last end of these steps; of the run where there are none. */
  span(first, last) {
    const { lanes } = this.t;
    const chosen = lanes.steps.filter(([, step]) => step >= first && step <= last);
    if (!chosen.length) return lanes.span;
    return [
      Math.min(...chosen.map(([, , start]) => start)),
      Math.max(...chosen.map(([, , start, duration]) => start + duration)),
    ];
  }
}
