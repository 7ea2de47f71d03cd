// The shell in the browser: every control writes the URL, and what is shown follows the URL.
// `rankscope.view` is how pages read and change it; page.py describes the whole round.
(function shell() {
  const RUN_BOUND = ["steps", "t0", "t1", "sel", "mark", "on", "fold"]; // keys that mean nothing in another run
  const STEPS = /^\s*\d{1,9}(\s*-\s*\d{1,9})?\s*$/;

  const view = {
    /** The query of the URL: a URLSearchParams. */
    get() {
      return new URLSearchParams(window.location.search);
    },

    /** Change keys of the query (null removes one); `replace` adds no step to the history. */
    set(changes, { replace = false, path = window.location.pathname } = {}) {
      const query = view.get();
      for (const [key, value] of Object.entries(changes)) {
        if (value === null || value === undefined || value === "") query.delete(key);
        else query.set(key, value);
      }
      const text = query.toString();
      view.go(path + (text ? `?${text}` : ""), { replace });
    },

    /** Show the view of an address of ours. */
    go(target, { replace = false } = {}) {
      if (target === window.location.pathname + window.location.search) return;
      window.history[replace ? "replaceState" : "pushState"]({}, "", target);
      window.dispatchEvent(new PopStateEvent("popstate")); // tells dcc.Location and the timeline
    },
  };

  function chooseRun(run) {
    const changes = Object.fromEntries(RUN_BOUND.map((key) => [key, null]));
    view.set({ ...changes, run: run === "0" ? null : run });
  }

  function toggleTheme() {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    window.localStorage.setItem("rankscope-theme", theme);
    view.set({ theme: theme === "dark" ? "dark" : null }, { replace: true });
  }

  /** Make the shell's own parts say what the URL says. */
  function showState() {
    const query = view.get();
    document.documentElement.dataset.theme = query.get("theme") === "dark" ? "dark" : "light";
    const run = document.getElementById("shell-run");
    if (run) run.value = query.get("run") ?? "0";
    const text = query.toString();
    for (const link of document.querySelectorAll("a[data-page]")) {
      const { page } = link.dataset;
      link.setAttribute("href", page + (text ? `?${text}` : ""));
      if (!link.classList.contains("nav-link")) continue;
      if (page === window.location.pathname) {
        link.setAttribute("aria-current", "page");
        document.title = `${link.textContent} · Rankscope`;
      } else link.removeAttribute("aria-current");
    }
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("#shell-theme")) toggleTheme();
    const link = event.target.closest("a[data-page]");
    const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey);
    if (link && plain) {
      event.preventDefault();
      view.set({}, { path: link.dataset.page });
    }
    const inside = event.target.closest("a[data-inside]"); // its address says the whole view
    if (inside && plain) {
      event.preventDefault();
      view.go(inside.getAttribute("href"));
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "shell-run") chooseRun(event.target.value);
    const key = event.target.dataset?.viewKey; // a page's own select: its value becomes this key
    if (key) view.set({ [key]: event.target.value });
  });
  window.addEventListener("popstate", showState);

  let shown = null;
  let asked = null; // what the server was last asked to lay out

  /** The same view once more, of a run that has grown. */
  function layOutAgain(generation) {
    window.dash_clientside.set_props("shell-view", { data: { ...asked, generation } });
  }

  window.dash_clientside = Object.assign(window.dash_clientside ?? {}, {
    shell: {
      /** The URL → what the server lays out (without the keys that the page follows itself). */
      follow(pathname, search, clientKeys) {
        showState();
        const query = new URLSearchParams(search ?? "");
        const steps = query.get("steps") ?? "";
        for (const key of clientKeys[pathname] ?? []) query.delete(key);
        const key = `${pathname}?${query}`;
        const same = key === shown;
        shown = key;
        const unchanged = window.dash_clientside.no_update;
        if (!same) asked = { pathname, search: `?${query}` };
        return [same ? unchanged : asked, steps];
      },

      /** The step field → the URL; returns the classes, which mark a value that is none. */
      chooseSteps(value) {
        const text = (value ?? "").trim();
        if (text && !STEPS.test(text)) return "control invalid";
        const [first, last] = text.split("-").map(Number);
        if (last !== undefined && last < first) return "control invalid";
        const steps = text.replaceAll(/\s/g, "");
        if (steps !== (view.get().get("steps") ?? "")) view.set({ steps, t0: null, t1: null });
        return "control";
      },

      /** The timeline's frame is in the page: its script, a module, takes over when it is there. */
      mountTimeline() {
        const mount = () => window.rankscope.mountTimeline(document.getElementById("timeline"));
        if (window.rankscope.mountTimeline) mount();
        else window.addEventListener("rankscope-timeline-loaded", mount, { once: true });
        return window.dash_clientside.no_update;
      },
    },
  });
  window.rankscope = Object.assign(window.rankscope ?? {}, { view, layOutAgain });
})();
