"""`rankscope layouts RUN`: pipeline or tensor parallelism, and how much of which?"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click
from rich.text import Text

from dashboard.analysis.layouts.layouts import Layouts, explore_layouts
from dashboard.analysis.layouts.prediction import (
    BUBBLE,
    DATA,
    OUTSIDE,
    PIPELINE,
    TENSOR,
    LayoutPrediction,
)
from dashboard.cli.options import chosen_steps, json_option, opened, run_argument, steps_option
from dashboard.cli.progress import count_progress
from dashboard.cli.tables import console, ms, percent, show, table

_SHARES = {TENSOR: "tp %", PIPELINE: "pp %", DATA: "dp %", BUBBLE: "bubble %"}
"""Of the step, what is shown of it, and as what."""
_MARKS = "¹²³⁴⁵⁶⁷⁸⁹"
_OTHER = "other"


@click.command("layouts")
@run_argument
@click.option("--world", type=click.IntRange(1, 65_536), metavar="N", help="Ranks in all.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Rows shown.")
@click.option(
    "--split",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Percent of the compute that tensor ranks share.  [default: 100]",
)
@click.option(
    "--layers",
    type=click.IntRange(1),
    metavar="L",
    help="Of the whole model; for tp communication where none was recorded.",
)
@click.option(
    "--gradients",
    type=click.FloatRange(0, min_open=True),
    metavar="BYTES",
    help="Of the whole model; for their reduction where none was recorded.",
)
@steps_option
@json_option
def layouts(
    path: Path | str,
    world: int | None,
    top: int,
    split: float | None,
    layers: int | None,
    gradients: float | None,
    steps: slice | None,
    as_json: bool,
) -> None:
    """Predict the step of RUN for other splits over pipeline (p), tensor (t) and data (d) ranks.

    The batch stays: m x d microbatches as large as the recorded ones, or half as large (m/2).
    Compute comes from the recorded stages, communication from the recorded groups, the schedule
    is carried out with both. What the recording does not tell is assumed, and marked.

    \b
    Examples:
      rankscope layouts runs/a                 the best ten of the same ranks
      rankscope layouts runs/a --world 64      on 64 ranks
      rankscope layouts runs/a --layers 32     a run without tensor parallelism
    """
    run = opened(path)
    found = explore_layouts(
        run,
        steps=chosen_steps(run, steps),
        world=world,
        split_share=None if split is None else split / 100,
        layers=layers,
        gradients=gradients,
        watch=partial(count_progress, "Predicting layouts"),
    )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    _print(found, top)


def _print(found: Layouts, top: int) -> None:
    shown = (found.recorded, *found.predictions[:top])
    assumptions = dict.fromkeys(said for prediction in shown for said in prediction.assumed)
    marks = dict(zip(assumptions, _MARKS, strict=False))
    rows = [_row(prediction, found.recorded, marks) for prediction in shown]
    memory = "act." if found.recorded.peak_bytes is None else "GB"
    columns = ["layout", "step", "±", "per mb", "change", *_SHARES.values(), memory, "limit", ""]
    out = console()
    show(
        out,
        table(
            "Layouts, ms; least per microbatch (mb) first; tp, pp, dp: communication\n"
            + ("act.: activations held, as recorded = 1" if memory == "act." else "GB: peak memory")
            + (f"; limit {_OTHER}: {OUTSIDE}" if OUTSIDE in {row.limit for row in shown} else ""),
            columns,
            rows,
        ),
    )
    if len(found.predictions) > top:
        out.print(Text(f"{len(found.predictions) - top} more (all with --json, or --top)"))
    out.print(
        Text(
            f"Measured {ms(found.measured_ns)} ms, the recorded layout predicted "
            f"{ms(found.recorded.step_ns)} ms: error {100 * found.model_error:.2g} %"
        )
    )
    for said, mark in marks.items():
        out.print(Text(f"{mark} {said}", style="yellow"))


def _short(layout: str) -> str:
    """The names of schedules as far as they differ."""
    for name in ("ZeroBubble", "1F1B") if "Interleaved" in layout else ("ZeroBubble",):
        layout = layout.removesuffix(name)
    return layout


def _row(
    prediction: LayoutPrediction, recorded: LayoutPrediction, marks: dict[str, str]
) -> list[str]:
    change = prediction.sample_ns / recorded.sample_ns - 1
    return [
        _short(str(prediction.layout)),
        ms(prediction.step_ns),
        percent((prediction.high_ns - prediction.low_ns) / 2 / (prediction.step_ns or 1)),
        ms(prediction.sample_ns),
        "recorded" if prediction is recorded else f"{100 * change:+.1f} %",
        *(f"{100 * prediction.shares[part]:.1f}" for part in _SHARES),
        f"{prediction.activations:.2g}×"
        if prediction.peak_bytes is None
        else f"{prediction.peak_bytes / 1e9:.3g}",
        _OTHER if prediction.limit == OUTSIDE else prediction.limit.removesuffix(" communication"),
        "".join(mark for said, mark in marks.items() if said in prediction.assumed)
        + "…" * any(said not in marks for said in prediction.assumed),
    ]
