// Save a figure as a picture, and name files after the run: RUN-FIGURE.png, A-vs-B-TABLE.csv.
(function save() {
  const SCALE = 2; // pixels of a saved PNG per pixel on the screen
  const TITLE_PX = 40; // for what the card says above the figure

  const chosen = (id) => document.getElementById(id)?.selectedOptions[0]?.textContent;

  /** The run, or on the Compare page both. */
  function shownRun() {
    return [chosen("shell-run"), chosen("compare-b")].filter(Boolean).join(" vs ");
  }

  const fileName = (name) => `${shownRun()}-${name}`.replaceAll(/[^\w.-]+/g, "-");

  /** The figure as it is now, with title, run and steps over it: alone it has to say what it is. */
  function savePicture({ save: format, graph, title }) {
    const figure = document.querySelector(`#${graph} .js-plotly-plot`);
    if (!figure) return;
    const { width, height } = figure.getBoundingClientRect();
    const { data, layout } = figure;
    const steps = window.rankscope.view.get().get("steps");
    const parts = [`<b>${title}</b>`, shownRun(), steps && `steps ${steps}`];
    const titled = {
      ...layout,
      title: { ...layout.title, text: parts.filter(Boolean).join(" · ") },
      margin: { ...layout.margin, t: (layout.margin?.t ?? 0) + TITLE_PX },
    };
    window.Plotly.downloadImage({ data, layout: titled }, {
      format,
      filename: fileName(graph),
      width,
      height: height + TITLE_PX,
      scale: format === "png" ? SCALE : 1,
    });
  }

  /** A canvas with all that it shows, as large as the screen's own pixels. */
  function saveCanvas({ canvas, name }) {
    document.querySelector(canvas)?.toBlob((picture) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(picture);
      link.download = `${fileName(name)}.png`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-save]");
    if (button?.dataset.canvas) saveCanvas(button.dataset);
    else if (button) savePicture(button.dataset);
    const link = event.target.closest("a[data-table]");
    if (link) link.download = `${fileName(link.dataset.table)}.csv`;
  });
})();
