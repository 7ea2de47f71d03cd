"""The timeline in a headless Chromium: how long until pixels are painted, how smooth panning is."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final

import click
import numpy as np

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--no-first-run")
_SCREEN: Final = {"width": 1280, "height": 800}
_LOADS: Final = 5
_PAN_MS: Final = 1_500
_PANS: Final = 8
_TIMEOUT_MS: Final = 120_000

Figure = tuple[str, float, str, int]

_WATCH: Final = """
() => {
  window.windowsCame = 0;
  const plain = window.fetch;
  window.fetch = async (url, ...others) => {
    const reply = await plain(url, ...others);
    if (!String(url).includes("/window?")) return reply;
    const body = reply.arrayBuffer.bind(reply);
    reply.arrayBuffer = async () => {
      const content = await body();
      window.windowsCame += 1;
      return content;
    };
    return reply;
  };
}
"""
_JUMP: Final = """
async ([start, end]) => {
  const before = window.windowsCame;
  const began = performance.now();
  window.rankscope.view.set({ t0: String(start), t1: String(end) });
  while (window.windowsCame === before) {
    if (performance.now() - began > 5000) return null;
    await new Promise((done) => setTimeout(done, 1));
  }
  // the first frame paints what came, the second one begins when that is done
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}
"""
_PAN: Final = """
async (length) => {
  const canvas = document.querySelector("[data-part=frame] > canvas");
  const { left, top } = canvas.getBoundingClientRect();
  const at = { clientX: left + 500, clientY: top + 200, bubbles: true, cancelable: true };
  const began = performance.now();
  let frames = 0;
  while (performance.now() - began < length) {
    const deltaY = Math.floor((frames / 40)) % 2 ? -12 : 12;
    canvas.dispatchEvent(new WheelEvent("wheel", { deltaY, shiftKey: true, ...at }));
    await new Promise(requestAnimationFrame);
    frames += 1;
  }
  return (1000 * frames) / (performance.now() - began);
}
"""


def measure_browser(address: str, places: Sequence[tuple[int, int]]) -> Iterator[Figure]:
    """Name, value, unit and samples of each figure; none if no Chromium is installed."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        click.echo("no Chromium on PATH: nothing is measured in a browser", err=True)
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        page = chromium.new_page(viewport=_SCREEN)
        page.set_default_timeout(_TIMEOUT_MS)
        loads = [_load(page, address) for _ in range(_LOADS)]
        yield "first_paint_ms", median(loads), "ms", _LOADS
        page.evaluate(_WATCH)
        jumps = [page.evaluate(_JUMP, place) for place in places]
        taken = [jump for jump in jumps if jump is not None]
        yield "pixels_p50_ms", median(taken), "ms", len(taken)
        yield "pixels_p95_ms", float(np.quantile(taken, 0.95)), "ms", len(taken)
        rates = []
        for place in places[:_PANS]:
            page.evaluate(_JUMP, place)
            rates.append(page.evaluate(_PAN, _PAN_MS))
        yield "pan_fps_median", median(rates), "frames/s", len(rates)
        yield "pan_fps_least", min(rates), "frames/s", len(rates)
        chromium.close()


def _load(page: Any, address: str) -> float:
    """ms from the request of the page until the lanes have their first events, painted."""
    began = time.perf_counter()
    page.goto(f"{address}timeline")
    page.wait_for_selector("#timeline[data-ready=true]")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return (time.perf_counter() - began) * 1e3
