// What is shown over or between the lanes when it is asked for. Each has a button, a key of the URL
// and a route of the server of one name: `path`, `bubbles`, `plan`, `counters`.
const MAX_WIDTH = 16_384; // window.py: MAX_WIDTH

export const OVERLAYS = ["path", "bubbles", "plan", "counters"];
const EMPTY = {
  path: "There is no critical path in this window: it is told for complete steps.",
  bubbles: "There are no bubbles in this window: only ranks of a pipeline have them, in complete steps.",
  plan: "There is no plan in this window.",
  counters: "This run has no counters of memory, utilization or power.",
};

export class Overlay {
  /** `t` is the Timeline of timeline.mjs; what the server says of the window is in
   * `t.scene[name]`, null while the overlay is not shown. */
  constructor(t, name) {
    this.t = t;
    this.name = name;
    this.shown = false;
    this.asked = null;
  }

  toggle() {
    window.rankscope.view.set({ [this.name]: this.shown ? null : "1" });
  }

  /** Do as the URL says. */
  follow(query) {
    const before = this.shown;
    this.shown = query.get(this.name) === "1";
    if (this.shown && !before) this.isFresh = true;
    this.t.part(this.name).setAttribute("aria-pressed", String(this.shown));
    if (this.shown) return;
    this.t.part(this.name).setAttribute("aria-busy", "false");
    this.keep(null);
  }

  /** What was shown holds no longer; the run has grown. */
  forget() {
    this.asked = null;
  }

  async fetch() {
    const { t } = this;
    const width = Math.min(MAX_WIDTH, Math.ceil(t.view.width));
    const asked = { t0: Math.floor(t.view.start), t1: Math.ceil(t.view.end), width };
    const key = this.shown ? JSON.stringify(asked) : null;
    if (key === this.asked) return;
    this.asked = key;
    if (!key) return;
    const button = t.part(this.name);
    button.setAttribute("aria-busy", "true");
    const taken = await t.feed.take(t.source.beside(this.name, asked), (fresh) => {
      if (this.asked === key) this.keep(fresh);
    });
    if (this.asked === key) button.setAttribute("aria-busy", "false");
    if (!taken && this.asked === key) this.asked = null; // so that it is asked for again
  }

  keep(fresh) {
    const { t, name } = this;
    if (fresh === t.scene[name]) return;
    t.scene[name] = fresh;
    const items = fresh?.actions ?? fresh;
    t.part(name).dataset.count = items ? String(items.length) : "";
    if (fresh?.said) t.say(fresh.said);
    else if (this.isFresh && items?.length === 0) t.say(EMPTY[name]);
    if (fresh) this.isFresh = false;
    t.layOut();
  }
}
