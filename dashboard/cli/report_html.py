"""`rankscope report RUN --html FILE`: one page that needs neither a server nor a network."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboard.figures.theme import THEMES, Theme, css
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.run import Run

Draw: TypeAlias = Callable[[Theme], go.Figure]
_Section: TypeAlias = tuple[str, str, Draw]
"""Title, how to read it, the figure."""

_STYLE: Final = """
body { margin: 0 auto; max-width: 1100px; padding: 24px 20px; color: var(--text);
       background: var(--page); font: 14px/1.5 var(--font); }
h1 { font-size: 20px; margin: 0 0 4px; } h2 { font-size: 15px; margin: 0 0 2px; }
section { margin: 16px 0; padding: 14px 16px; background: var(--card);
          border: 1px solid var(--border); border-radius: 8px; }
p.note { margin: 0 0 8px; color: var(--muted); }
pre { overflow-x: auto; font: 12px/1.45 var(--mono); }
button { float: right; padding: 5px 10px; color: var(--text); background: var(--raised);
         border: 1px solid var(--border); border-radius: 6px; font: inherit; cursor: pointer; }
@media print { button { display: none; } }
"""

_SCRIPT: Final = """
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
function draw() {
  const theme = document.documentElement.dataset.theme;
  for (const [id, both] of Object.entries(FIGURES)) {
    Plotly.react(id, both[theme].data, both[theme].layout,
                 { responsive: true, displaylogo: false, displayModeBar: false });
  }
}
document.querySelector("button").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  draw();
});
if (matchMedia("(prefers-color-scheme: dark)").matches) {
  document.documentElement.dataset.theme = "dark";
}
draw();
"""


def write_html(run: Run, steps: Collection[int] | None, text: str, path: Path) -> None:
    """Write the page; `text` is the report as the terminal has it. An old file is replaced only
    when the new one is complete.

    Raises:
        UsageError: it cannot be written there.
    """
    page = "".join(_page(run, steps, text))
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from error


def _page(run: Run, steps: Collection[int] | None, text: str) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en" data-theme="light"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<link rel="icon" href="data:,">'
    yield f"<title>{escape(run.name)} · Rankscope</title>"
    yield f"<style>{css()}{_STYLE}</style></head><body>"
    yield '<button type="button">Light or dark</button>'
    yield f"<h1>{escape(run.name)}</h1>"
    yield '<p class="note">Made by <code>rankscope report --html</code>.</p>'
    yield f"<section><h2>Report</h2><pre>{escape(text)}</pre></section>"
    figures = {}
    for number, (title, note, draw) in enumerate(_sections(run, steps)):
        drawn = {theme: draw(theme) for theme in THEMES}
        for made in drawn.values():
            made.update_layout(title=None, margin_t=30)
        height = drawn["light"].layout.height
        figures[f"figure-{number}"] = {
            theme: json.loads(made.to_json()) for theme, made in drawn.items()
        }
        yield f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>'
        named = f'role="figure" aria-label="{escape(title)}"'
        yield f'<div id="figure-{number}" {named} style="height:{height}px"></div></section>'
    yield f"<script>{get_plotlyjs()}</script>"
    # In a script element only `</` and `<!--` would end or change what is read as data.
    data = json.dumps(figures).replace("<", "\\u003c")
    yield f'<script id="figures" type="application/json">{data}</script>'
    yield f"<script>{_SCRIPT}</script></body></html>\n"


def _sections(run: Run, steps: Collection[int] | None) -> Iterator[_Section]:
    """The figures that have something to show."""
    if not run.steps:
        return
    of = run.figures
    yield (
        "Where each rank's time goes",
        "The mean step of each rank; categories add up to it.",
        lambda theme: of.accounting(steps, theme),
    )
    yield (
        "Step time over the run",
        "Median over the ranks; the band reaches from the fastest to the slowest.",
        lambda theme: of.step_times(steps, theme),
    )
    yield (
        "What mending saves",
        "By replay of the recorded steps, each alone; lines are 95 % intervals.",
        lambda theme: of.savings(steps, theme),
    )
    shown = _longest_step(run, steps)
    yield (
        f"Timeline of step {shown}",
        "The longest of the steps.",
        lambda theme: of.timeline(shown, theme),
    )
    yield (
        "Work by rank and step, against the median",
        "Compute and optimizer. One odd row is a slow rank or stage, one odd column a long step.",
        lambda theme: of.work(steps, theme),
    )
    if run.bubbles(steps).steps.num_rows:
        yield (
            f"Schedule of step {shown}",
            "As measured, replayed without waiting, and as planned with equally long stages.",
            lambda theme: of.schedule(shown, theme=theme),
        )
        yield (
            "Where the bubble sits",
            "Warm-up: before a rank's first action; stall: between actions; cool-down: after.",
            lambda theme: of.bubble_parts(steps, theme),
        )
        yield (
            "Who waited for whom",
            "Stalls between actions, given to the sender of the message that ended them.",
            lambda theme: of.culprits(steps, theme),
        )
    if run.bandwidth(steps).summary.num_rows:
        yield (
            "Bus bandwidth by message size",
            "Filled: skew-free, what the link did. Hollow: as seen, waiting included. Curves: fit "
            "of latency and bandwidth; dotted: peaks.",
            lambda theme: of.busbw(steps, theme),
        )
        yield (
            "Exposed and overlapped communication",
            "Hatched: hidden by compute. Only what is exposed lengthens a step.",
            lambda theme: of.overlap(steps, theme),
        )
    if run.memory(steps).ranks.num_rows:
        yield (
            "Memory and microbatches held",
            "A microbatch is held from its forward on a stage to its backward there.",
            lambda theme: of.memory(steps, theme),
        )


def _longest_step(run: Run, steps: Collection[int] | None) -> int:
    """That of which some rank's window is longest; the first step is usually a warm-up."""
    windows = run.accounting(steps).windows.to_pylist()
    later = [row for row in windows if row["step"] != run.steps[0]] or windows
    longest: int = max(later, key=lambda row: row["duration"])["step"]
    return longest
