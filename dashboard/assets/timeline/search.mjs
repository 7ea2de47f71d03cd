// The search field: what it finds is counted, gone through with Enter, and ticked on the minimap.
// What is looked for is in the URL (`q`).
import { element } from "./words.mjs";

const HELP = "words of a name or kind; rank:3 stage:1 mb:4 step:12 kind:wait";
const DELAY_MS = 250; // after the last letter

export class Search {
  /** `t` is the Timeline of timeline.mjs. */
  constructor(t) {
    this.t = t;
    this.field = element("input", {
      type: "search",
      className: "timeline-search",
      placeholder: "Search  /",
      maxlength: "200",
      title: HELP,
      "aria-label": "Search events",
    });
    t.part("search-box").replaceChildren(this.field);
    this.text = ""; // as it was last seen in the URL
    this.found = null; // {count, at, hit, ticks}
    this.went = false; // to a hit of this search
  }

  listen(signal) {
    const { field } = this;
    field.addEventListener("input", () => this.wait(), { signal });
    field.addEventListener("keydown", (event) => this.key(event), { signal });
    this.t.part("search-previous").addEventListener("click", () => this.step(-1), { signal });
    this.t.part("search-next").addEventListener("click", () => this.step(1), { signal });
  }

  focus() {
    this.field.focus();
    this.field.select();
  }

  wait() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tell(), DELAY_MS);
  }

  tell() {
    clearTimeout(this.timer);
    window.rankscope.view.set({ q: this.field.value.trim() || null }, { replace: true });
  }

  key(event) {
    if (event.key === "Enter") {
      this.tell();
      this.step(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      this.field.value = "";
      this.tell();
      this.t.frame.focus({ preventScroll: true });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Look for what the URL says. */
  follow(query) {
    const text = query.get("q") ?? "";
    if (text === this.text) return;
    this.text = text;
    this.went = false;
    if (document.activeElement !== this.field) this.field.value = text;
    this.asking = text ? this.ask({ after: Math.floor(this.t.view.start) }) : this.show(null);
  }

  /** Go to the hit after (1) or before (-1) this one; at first to the next one in sight. */
  async step(by) {
    await this.asking;
    const { found } = this;
    if (!found?.count) return;
    if (this.went) {
      const at = (found.at + by + found.count) % found.count;
      this.asking = this.ask({ at });
      await this.asking;
    }
    this.went = true;
    this.show(this.found);
    const { rank, row } = this.found.hit;
    this.t.picker.choose({ rank, row, go: true });
  }

  async ask(which) {
    const { text } = this;
    try {
      const found = await this.t.source.beside("search", { q: text, ...which });
      if (found && this.text === text) this.show(found);
    } catch (error) {
      if (this.text === text) this.show(null, error.message);
    }
  }

  show(found, trouble = "") {
    this.found = found;
    const count = this.t.part("search-count");
    const many = found?.count.toLocaleString("en-US");
    const place = this.went ? `${((found?.at ?? 0) + 1).toLocaleString("en-US")} / ` : "";
    count.textContent = found ? (found.count ? place + many : "none") : trouble && "?";
    count.title = trouble;
    this.field.setAttribute("aria-invalid", String(Boolean(trouble)));
    this.field.title = trouble || HELP;
    this.t.scene.ticks = found?.ticks ?? [];
    this.t.redraw();
  }
}
