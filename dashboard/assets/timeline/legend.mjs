// The legend: a button for each kind that the run has; a click hides or shows it. What is hidden
// is in the URL (`hide=send|wait`).
import { element, kindTitle } from "./words.mjs";

export class Legend {
  /** `t` is the Timeline of timeline.mjs. */
  constructor(t) {
    this.t = t;
    this.hidden = new Set();
    this.buttons = t.lanes.present.map((kind) => this.button(kind));
    t.part("legend").replaceChildren(...this.buttons);
  }

  button(kind) {
    const attributes = { type: "button", className: "legend-item", "data-kind": kind };
    const button = element("button", { ...attributes, title: "Show or hide" }, [
      element("span", { className: "swatch" }),
      document.createTextNode(kindTitle(kind)),
    ]);
    button.addEventListener("click", () => this.toggle(kind));
    return button;
  }

  toggle(kind) {
    const hidden = new Set(this.hidden);
    if (!hidden.delete(kind)) hidden.add(kind);
    window.rankscope.view.set({ hide: [...hidden].sort().join("|") });
  }

  recolour() {
    for (const button of this.buttons) {
      button.firstElementChild.style.background = this.t.colourOf(button.dataset.kind);
    }
  }

  /** Show what the URL says; returns the numbers of the hidden kinds. */
  follow(text) {
    this.hidden = new Set((text ?? "").split("|").filter((kind) => this.t.kindIndex.has(kind)));
    for (const button of this.buttons) {
      button.setAttribute("aria-pressed", String(!this.hidden.has(button.dataset.kind)));
    }
    return new Set([...this.hidden].map((kind) => this.t.kindIndex.get(kind)));
  }
}
