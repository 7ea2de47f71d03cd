"""`rankscope whatif RUN`: what the step would take if something were otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.text import Text

from dashboard.analysis.replay.other_plans import (
    OtherPlans,
    PlanPrediction,
    has_plans,
    other_plans,
    plan_like,
)
from dashboard.analysis.replay.scenarios import (
    Scenario,
    balanced_stages,
    faster_communication,
    moved_layers,
    no_stragglers,
    stage_takes,
    together,
)
from dashboard.analysis.replay.whatif import Prediction, WhatIf, what_if
from dashboard.cli.options import chosen_steps, json_option, opened, run_argument, steps_option
from dashboard.cli.tables import console, ms, percent, show, table


@click.command("whatif")
@run_argument
@click.option("--no-stragglers", "straightened", is_flag=True, help="No action beyond its usual.")
@click.option("--balance", is_flag=True, help="All stages compute equally long.")
@click.option(
    "--stage", "stages", multiple=True, metavar="K=P%", help="Stage K takes P % of its time: 2=80%."
)
@click.option(
    "--move", "moves", multiple=True, metavar="K:L=P%", help="Move P % of stage K's layers to L."
)
@click.option(
    "--comm", "faster", multiple=True, metavar="DIM=F", help="DIM is F times as fast: tp=2, dp=inf."
)
@click.option("--schedule", metavar="NAME", help="Another schedule: GPipe, Interleaved1F1B, …")
@click.option("--microbatches", type=click.IntRange(1), metavar="M", help="M of them, as large.")
@click.option("--virtual-stages", type=click.IntRange(1), metavar="V", help="V stages per rank.")
@click.option("--input-share", metavar="P%", help="Of a backward, the part for the input: 50%.")
@steps_option
@json_option
def whatif(
    path: Path | str,
    straightened: bool,
    balance: bool,
    stages: Sequence[str],
    moves: Sequence[str],
    faster: Sequence[str],
    schedule: str | None,
    microbatches: int | None,
    virtual_stages: int | None,
    input_share: str | None,
    steps: slice | None,
    as_json: bool,
) -> None:
    """Predict the step time of RUN if something were otherwise.

    Other durations: the dependency graph of the recorded steps is replayed with them. Other
    plans (--schedule, --microbatches, --virtual-stages): the recorded costs are carried out in
    another order. By how much each way is off for the run as it was recorded, is printed.
    Without options: what makes sense for the run, each alone. With options: all of them together.

    \b
    Examples:
      rankscope whatif runs/a                          what would help most
      rankscope whatif runs/a --stage 2=80%            stage 2 a fifth faster
      rankscope whatif runs/a --move 2:3=10%           a tenth of stage 2's layers to stage 3
      rankscope whatif runs/a --balance --comm pp=inf  both together
      rankscope whatif runs/a --microbatches 16        twice as many, as large as recorded
      rankscope whatif runs/a --schedule ZBVZeroBubble --input-share 60%
      rankscope whatif runs/a --balance --microbatches 16
    """
    chosen = [
        *([no_stragglers()] if straightened else []),
        *([balanced_stages()] if balance else []),
        *(_stage(said) for said in stages),
        *(_move(said) for said in moves),
        *(_faster(said) for said in faster),
    ]
    replanned = schedule is not None or microbatches is not None or virtual_stages is not None
    if replanned and any(said.partition("=")[0] != "pp" for said in faster):
        raise click.UsageError(
            "another plan is carried out with what actions and messages of the pipeline cost: of "
            "--comm only pp goes with it"
        )
    run = opened(path)
    picked = chosen_steps(run, steps)
    found = plans = None
    if not replanned:
        found = what_if(run, [together(chosen)] if chosen else None, picked)
    if replanned or (not chosen and has_plans(run)):
        wanted = plan_like(run, schedule=schedule, m=microbatches, v=virtual_stages)
        part = None if input_share is None else _share("--input-share", input_share, input_share)
        plans = other_plans(
            run,
            [wanted] if replanned else None,
            picked,
            input_share=part,
            scenario=together(chosen) if chosen else None,
        )
    if as_json:
        said = (found.to_json() if found else {}) | {"plans": plans and plans.to_json()}
        click.echo(json.dumps(said, indent=1))
        return
    if found is not None:
        _print(found)
    if plans is not None:
        _print_plans(plans, together(chosen).name if replanned and chosen else "")


def _stage(said: str) -> Scenario:
    stage, _, share = said.partition("=")
    return stage_takes(_number("--stage", said, stage), _share("--stage", said, share))


def _move(said: str) -> Scenario:
    stages, _, share = said.partition("=")
    source, _, target = stages.partition(":")
    part = _share("--move", said, share)
    if part > 1:
        raise click.BadParameter(f"{said!r}: more than the whole stage", param_hint="--move")
    return moved_layers(_number("--move", said, source), _number("--move", said, target), part)


def _faster(said: str) -> Scenario:
    dim, _, times = said.partition("=")
    try:
        factor = float(times)
    except ValueError:
        factor = 0.0
    if not factor > 0:
        raise click.BadParameter(f"{said!r}; write tp=2 or dp=inf", param_hint="--comm")
    return faster_communication(dim, factor)


def _number(option: str, said: str, number: str) -> int:
    if not number.isdigit():
        raise click.BadParameter(f"{said!r} begins with no number of a stage", param_hint=option)
    return int(number)


def _share(option: str, said: str, share: str) -> float:
    try:
        found = float(share.removesuffix("%")) / 100
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf") or not share.endswith("%"):
        raise click.BadParameter(f"{said!r}; end with a share: 80%", param_hint=option)
    return found


def _print(found: WhatIf) -> None:
    out = console()
    if not found.steps:
        out.print("No step is complete on every rank: call t.step() after each optimizer step.")
        return
    rows = [_row(prediction, found.measured_ns) for prediction in found.predictions]
    title = f"Predicted step time, ms (mean of {len(found.steps)} steps; saved: 95 % interval)"
    columns = ["if", "step", "saved", "interval", "of the step"]
    show(out, table(title, columns, rows, words=1))
    out.print(
        Text(
            f"Measured {ms(found.measured_ns)} ms, replayed unchanged {ms(found.replayed_ns)} ms: "
            f"error {100 * found.replay_error:.2g} %"
        )
    )
    for note in found.notes:
        out.print(Text(note, style="yellow"))


def _print_plans(found: OtherPlans, otherwise: str) -> None:
    recorded = found.recorded
    assumptions = dict.fromkeys(said for plan in found.predictions for said in plan.assumed)
    marks = dict(zip(assumptions, "¹²³⁴⁵", strict=False))
    rows = [_plan_row(plan, recorded, marks) for plan in (recorded, *found.predictions)]
    columns = ["plan", "m", "v", "step", "from", "to", "per mb", "change", "bubble", "in flight"]
    out = console()
    show(out, table("Other plans, ms; microbatches as large as recorded", columns, rows))
    if otherwise:
        out.print(Text(f"Of the other plan, too: {otherwise}"))
    out.print(
        Text(
            f"Measured {ms(found.measured_ns)} ms, the recorded plan predicted "
            f"{ms(recorded.step_ns)} ms: error {100 * found.model_error:.2g} %"
        )
    )
    for assumed, mark in marks.items():
        out.print(Text(f"{mark} assumed: {assumed}", style="yellow"))


def _plan_row(plan: PlanPrediction, recorded: PlanPrediction, marks: dict[str, str]) -> list[str]:
    change = plan.microbatch_ns / recorded.microbatch_ns - 1
    return [
        plan.schedule.removeprefix("Schedule") + "".join(marks[said] for said in plan.assumed),
        str(plan.m),
        str(plan.v),
        ms(plan.step_ns),
        ms(plan.low_ns),
        ms(plan.high_ns),
        ms(plan.microbatch_ns),
        "recorded" if plan is recorded else f"{100 * change:+.1f} %",
        percent(plan.bubble_fraction_of_window),
        str(plan.in_flight),
    ]


def _row(prediction: Prediction, measured_ns: float) -> list[str]:
    low, high = prediction.low_ns, prediction.high_ns
    return [
        prediction.scenario,
        ms(prediction.step_ns),
        ms(prediction.saved_ns),
        "–" if low is None or high is None else f"{ms(low)} to {ms(high)}",
        percent(prediction.saved_ns / measured_ns if measured_ns else None),
    ]
