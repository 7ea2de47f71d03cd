// Keys that work on every page, their help, and the way past the navigation.
(function keys() {
  const byId = (id) => document.getElementById(id);

  const KEYS = {
    t: () => byId("shell-theme").click(),
    r: () => byId("shell-run").focus(),
    e: () => byId("shell-steps").focus(),
    "?": () => byId("timeline") || byId("shell-help").showModal(), // the timeline has its own
  };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, select, textarea, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const page = document.querySelectorAll(".nav-link")[Number(event.key) - 1];
    const action = page ? () => page.click() : KEYS[event.key.toLowerCase()];
    if (!action) return;
    byId("shell-help").close();
    action();
    event.preventDefault();
  }

  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    const help = byId("shell-help");
    if (event.target.closest("#shell-keys")) help.showModal();
    // A click beside the box is one on the dialog itself, which lies over the whole page.
    else if (event.target === help || event.target.closest("[data-close]")) help?.close();
    if (event.target.closest(".skip-link")) {
      event.preventDefault();
      byId("shell-page").focus();
    }
  });
})();
