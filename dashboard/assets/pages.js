// What the pages of figures do in the browser: ask in SQL, go to the step that was clicked.
(function pages() {
  /** Query: what is written in the editor becomes the URL's query. */
  function ask() {
    const sql = document.getElementById("query-sql")?.value;
    if (sql !== undefined) window.rankscope.view.set({ sql });
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("#query-run")) ask();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.id === "query-sql" && event.key === "Enter" && (event.ctrlKey || event.metaKey))
      ask();
  });

  // Dash's sliders have no name that a screen reader could say; ours say it beside them.
  new MutationObserver(() => {
    for (const thumb of document.querySelectorAll(".slider [role=slider]:not([aria-label])"))
      thumb.setAttribute("aria-label", thumb.closest(".slider").dataset.label);
  }).observe(document.documentElement, { childList: true, subtree: true });

  const point = (click) => click?.points?.at(-1);

  window.dash_clientside = Object.assign(window.dash_clientside ?? {}, {
    pages: {
      /** Overview: the step's window, which the point carries, in the timeline. */
      openStep(click) {
        const window_ = point(click)?.customdata;
        if (!window_) return;
        const [t0, t1] = window_.map(String);
        window.rankscope.view.set({ t0, t1 }, { path: "/timeline" });
      },

      /** Stragglers: the same of a map's cell, whose window Dash leaves out of the click. */
      openCell(click, figure) {
        const cell = point(click);
        if (!cell) return;
        const [map] = figure.data;
        const window_ = map.customdata[map.y.indexOf(cell.y)]?.[map.x.indexOf(cell.x)];
        if (!window_) return;
        const [t0, t1] = window_.map(String);
        window.rankscope.view.set({ t0, t1 }, { path: "/timeline" });
      },

      /** What-if: a slider's value becomes the key that its id ends with; the usual one is none. */
      slide(value, usual) {
        const [name] = window.dash_clientside.callback_context.triggered_id?.split(".") ?? [];
        if (!name || value === undefined) return;
        const key = name.split("-").at(-1);
        const text = value === usual ? null : String(value);
        if (window.rankscope.view.get().get(key) !== text) window.rankscope.view.set({ [key]: text });
      },

      /** Pipeline: draw the schedule of the step that was clicked. */
      drawStep(click) {
        const step = point(click)?.x;
        if (step !== undefined) window.rankscope.view.set({ at: String(step) }, { replace: true });
      },
    },
  });
})();
