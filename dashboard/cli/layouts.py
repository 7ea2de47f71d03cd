"""`rankscope layouts RUN`: pipeline or tensor parallelism, and how much of which?"""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.text import Text

from dashboard.analysis.layouts import LayoutPrediction, Layouts, explore_layouts
from dashboard.cli.options import chosen_steps, json_option, run_argument, steps_option
from dashboard.cli.tables import console, ms, percent, show, table
from dashboard.run import open_run

_MARKS = "¹²³⁴⁵⁶⁷⁸⁹"


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
@steps_option
@json_option
def layouts(
    path: Path,
    world: int | None,
    top: int,
    split: float | None,
    layers: int | None,
    steps: slice | None,
    as_json: bool,
) -> None:
    """Predict the step of RUN for other splits over pipeline (p), tensor (t) and data (d) ranks.

    The batch stays: m x d microbatches as large as the recorded ones. Compute comes from the
    recorded stages, tensor-parallel communication from the recorded groups, the schedule is
    carried out with both. What the recording does not tell is assumed, and marked.

    \b
    Examples:
      rankscope layouts runs/a                 the best ten of the same ranks
      rankscope layouts runs/a --world 64      on 64 ranks
      rankscope layouts runs/a --layers 32     a run without tensor parallelism
    """
    run = open_run(path)
    found = explore_layouts(
        run,
        steps=chosen_steps(run, steps),
        world=world,
        split_share=None if split is None else split / 100,
        layers=layers,
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
    columns = ["layout", "step", "±", "per mb", "change", "tp", "bubble", "act.", "limit", ""]
    out = console()
    show(
        out,
        table(
            "Layouts, ms; least per microbatch (mb) first; act.: activations held, as recorded = 1",
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


def _row(
    prediction: LayoutPrediction, recorded: LayoutPrediction, marks: dict[str, str]
) -> list[str]:
    change = prediction.sample_ns / recorded.sample_ns - 1
    return [
        str(prediction.layout),
        ms(prediction.step_ns),
        percent((prediction.high_ns - prediction.low_ns) / 2 / (prediction.step_ns or 1)),
        ms(prediction.sample_ns),
        "recorded" if prediction is recorded else f"{100 * change:+.1f} %",
        percent(prediction.tensor_share),
        percent(prediction.bubble_fraction_of_window),
        f"{prediction.activations:.2g}×",
        prediction.limit.removesuffix(" communication"),
        "".join(sorted(marks.get(said, "…") for said in prediction.assumed)),
    ]
