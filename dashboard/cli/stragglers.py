"""`rankscope stragglers RUN`: who holds up the others, why, and what it costs the step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from dashboard.analysis.stragglers.stragglers import Straggler, Stragglers, find_stragglers
from dashboard.cli.elsewhere import Where, where_options
from dashboard.cli.options import chosen_steps, json_option, opened, run_argument, steps_option
from dashboard.cli.tables import console, ms, percent, show, table


class Share(click.ParamType[float]):
    """`5%` → 0.05."""

    name = "P%"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The share that `value` means, or click's usage error."""
        if isinstance(value, float):
            return value
        try:
            found = float(str(value).removesuffix("%")) / 100
        except ValueError:
            found = -1.0
        if not 0 <= found <= 1 or not str(value).endswith("%"):
            self.fail(f"{value!r} is not a share of the step; write 5%")
        return found


@click.command("stragglers")
@run_argument
@click.option(
    "--min", "least", type=Share(), default=0.0, help="Only what costs so much of the step: 5%."
)
@steps_option
@json_option
@where_options
def stragglers(
    path: Path | str, least: float, steps: slice | None, as_json: bool, **where: Any
) -> None:
    """Find what holds up the steps of RUN, and price each cause by replay.

    Told apart are a rank that is slower than those that do the same work, a stage that computes
    longer than the others, steps in which a rank works longer than usual, stalls of single actions,
    data loading, garbage collection and gaps that come now and then, and links that are slower
    than their peers. What one costs is the mean step time less that of a replay without its
    excess.

    \b
    Examples:
      rankscope stragglers runs/a               everything that is worth a line
      rankscope stragglers runs/a --min 5%      only what costs 5 % of the step or more
      rankscope stragglers runs/a --step 100:   without the first hundred steps
      rankscope stragglers runs/a --json        with all evidence: rank, step, start, duration
    """
    run = opened(path)
    Where(**where).work(run, (find_stragglers,))
    found = run.stragglers(chosen_steps(run, steps))
    found = replace(found, found=tuple(s for s in found.found if s.share >= least))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    _print(found)


def _print(found: Stragglers) -> None:
    out = console()
    if not found.steps:
        out.print("No step is complete on every rank: call t.step() after each optimizer step.")
        return
    measured = f"mean of {len(found.steps)} steps, {ms(found.step_ns)} ms each"
    if not found.found and found.is_telling:
        out.print(Text(f"No straggler: nothing stands out ({measured})."))
    elif found.found:
        rows = [_row(straggler) for straggler in found.found]
        columns = ["what", "worst at", "costs", "interval", "of the step", "confidence"]
        show(out, table(f"Stragglers, ms per step ({measured})", columns, rows, words=2))
    out.print(
        Text(
            f"By replay; replayed unchanged, the steps are off by {100 * found.replay_error:.2g} %"
        )
    )
    for note in found.notes:
        out.print(Text(note, style="yellow"))


def _row(straggler: Straggler) -> list[str]:
    low, high = straggler.low_ms, straggler.high_ms
    worst = straggler.evidence[0] if straggler.evidence else None
    return [
        straggler.text,
        "–" if worst is None else f"step {worst.step}, {worst.start / 1e6:,.1f} ms",
        f"{straggler.ms_per_step:,.2f}",
        "–" if low is None or high is None else f"{low:,.2f} to {high:,.2f}",
        percent(straggler.share),
        straggler.confidence,
    ]
