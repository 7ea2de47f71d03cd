// plotly.js, 5 MB, however long it takes to come. Dash gives up after 30 seconds, and then shows
// no page that has a figure; but where there is a promise of it, Dash waits for that.
(function drawing() {
  let coming = null;

  function load() {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { src: window._dashPlotlyJSURL, onload: () => resolve(), onerror: reject });
      document.body.append(script);
    });
  }

  Object.defineProperty(window, "Plotly", {
    configurable: true,
    get: () => (coming ??= load()), // at the first figure
    set(value) {
      Object.defineProperty(window, "Plotly", { value, writable: true });
    },
  });
})();
