// Runs that are being recorded: asks how far they have come, says so in the badge, and has the
// page laid out anew where the shown run has grown. The timeline fetches what is new by itself.
(function live() {
  const EVERY_MS = 400;
  const WORDS = {
    live: ({ last_step: step }) => (step === null ? "Live" : `Live · step ${step}`),
    quiet: ({ last_step: step }) => (step === null ? "No step yet" : `No news · step ${step}`),
    ended: ({ last_step: step }) => (step === null ? "Ended · no step" : `Ended · step ${step}`),
  };
  let drawn = null; // what is on the page: run and generation

  function show(badge, status) {
    const words = WORDS[status.state]?.(status) ?? status.state;
    badge.dataset.state = status.state;
    badge.dataset.generation = status.generation;
    badge.textContent = words;
    badge.title = `${status.path}: ${status.said || "click to go back to its end"}`;
  }

  /** Nothing that was asked for before is still being laid out. */
  function isSettled() {
    const marker = document.getElementById("shell-drawn");
    return marker && (!drawn?.asked || marker.dataset.generation === String(drawn.generation));
  }

  function follow(run, status) {
    const key = `${run}.${status.generation}`;
    if (drawn?.key === key || !isSettled()) return;
    const isFirst = drawn?.run !== run;
    const onTimeline = document.getElementById("timeline") !== null;
    drawn = { key, run, generation: status.generation, asked: !isFirst && !onTimeline };
    if (isFirst) return; // laid out from this generation or a newer one
    if (onTimeline) window.dispatchEvent(new Event("rankscope-grown"));
    else window.rankscope.layOutAgain(status.generation);
  }

  async function look() {
    const badge = document.getElementById("shell-live");
    if (!badge || document.hidden) return;
    const reply = await fetch("/api/live");
    if (!reply.ok) return;
    const run = window.rankscope.view.get().get("run") ?? "0";
    const status = (await reply.json())[run];
    badge.hidden = !status;
    if (!status) return;
    show(badge, status);
    follow(run, status);
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest("#shell-live")) return;
    window.rankscope.view.set({ t0: null, t1: null, steps: null });
    window.dispatchEvent(new Event("rankscope-follow"));
  });
  (async function again() {
    await look().catch(() => {
      const badge = document.getElementById("shell-live");
      if (badge) Object.assign(badge, { textContent: "Server gone" }).dataset.state = "quiet";
    });
    setTimeout(again, EVERY_MS);
  })();
})();
