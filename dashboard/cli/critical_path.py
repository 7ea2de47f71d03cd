"""`rankscope critical-path RUN`: what the step time was spent on, across ranks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click
from rich.text import Text

from dashboard.analysis.replay.critical_path import CriticalPath
from dashboard.analysis.whole_run.warm_up import warm_up
from dashboard.cli.options import (
    chosen_steps,
    json_option,
    opened,
    run_argument,
    said_of_warm_up,
    steps_option,
)
from dashboard.cli.tables import console, ms, percent, show, table
from dashboard.run import Run

_ROWS = 20


@click.command("critical-path")
@run_argument
@steps_option
@json_option
def critical_path(path: Path | str, steps: slice | None, as_json: bool) -> None:
    """Follow the critical path of each step of RUN and sum up what it was spent on.

    Only work on this path is worth making faster: everything else waits for it anyway. The
    segments of a step add up to its measured time.

    \b
    Example:
      rankscope critical-path runs/a --step 10:20
    """
    run = opened(path)
    found = run.critical_path(chosen_steps(run, steps))
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    _print(run, found)


def _print(run: Run, found: CriticalPath) -> None:
    out = console()
    if not found.steps.num_rows:
        out.print("No step is complete on every rank: call t.step() after each optimizer step.")
        return
    rows = found.summary.to_pylist()
    shown = [
        [
            row["category"],
            row["name"],
            "–" if row["stage"] is None else str(row["stage"]),
            str(row["rank"]),
            ms(row["ns_per_step"]),
            percent(row["share"]),
        ]
        for row in rows[:_ROWS]
    ]
    lengths = found.steps["length_ns"].to_pylist()
    first = warm_up(run, found.steps["step"].to_pylist(), lengths)
    if first is not None:
        out.print(Text(said_of_warm_up(first), style="yellow"))
    title = f"Critical path, mean of {len(lengths)} steps of {ms(sum(lengths) / len(lengths))} ms"
    columns = ["category", "what", "stage", "rank", "ms per step", "share"]
    show(out, table(title, columns, shown, words=2))
    if len(rows) > _ROWS:
        rest = sum(row["share"] for row in rows[_ROWS:])
        out.print(Text(f"{len(rows) - _ROWS} smaller rows: {percent(rest)} (all with --json)"))
    by_category: Counter[str] = Counter()
    for row in rows:
        by_category[row["category"]] += row["share"]
    parts = (f"{category} {percent(share)}" for category, share in by_category.most_common())
    out.print(Text("By category: " + ", ".join(parts), style="bold"))
    for note in found.notes:
        out.print(Text(note, style="yellow"))
