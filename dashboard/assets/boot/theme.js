// Runs before the first paint: the theme is in the URL, or what this person used last, or what
// their system prefers; a dark one is written to the URL, which alone says what is shown.
(function bootTheme() {
  const url = new URL(window.location.href);
  let theme = url.searchParams.get("theme");
  if (theme === null) {
    const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    theme = window.localStorage.getItem("rankscope-theme") ?? (dark ? "dark" : "light");
    if (theme === "dark") {
      url.searchParams.set("theme", "dark");
      window.history.replaceState(window.history.state, "", url);
    }
  }
  document.documentElement.dataset.theme = theme === "dark" ? "dark" : "light";
})();
