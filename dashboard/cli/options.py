"""What several commands take: runs and step ranges."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dashboard.cli.opening import open_run
from dashboard.run import Run
from dashboard.runs.stores import location_of
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.analysis.whole_run.warm_up import WarmUp


class RunLocation(click.ParamType[Path | str]):
    """A directory, as a `Path`, or an address on an object store, as text."""

    name = "RUN"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        """What `value` means; whether there is a run, opening it says."""
        return location_of(value)


run_argument = click.argument("path", metavar="RUN", type=RunLocation())


def opened(path: Path | str) -> Run:
    """The run; what is damaged or missing in it is said on standard error, for every answer is of
    the rest.
    """
    run = open_run(path)
    for problem in run.problems:
        click.secho(f"! {problem}", fg="yellow", err=True)
    return run


class StepRange(click.ParamType[slice]):
    """`A:B`, half-open as in Python; `A:` and `:B` too; a lone `A` is that step. What is negative
    counts from the last step, which is -1.
    """

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> slice:
        """The slice that `value` means, or click's usage error."""
        if isinstance(value, slice):
            return value
        first, colon, last = str(value).partition(":")
        try:
            begin = int(first) if first else 0
            end = (int(last) if last else None) if colon else int(first) + 1 or None
        except ValueError:
            self.fail(f"{value!r} is not a range of steps; write 10:20, 10:, :20, 10 or -5:")
        if end is not None and (begin < 0) == (end < 0) and begin >= end:
            self.fail(f"{value!r} holds no step: its end, {end}, is not part of it")
        return slice(begin, end)


steps_option = click.option(
    "--step",
    "steps",
    type=StepRange(),
    help="Only these steps, half-open: 10:20, 10:, :20, 10; -5: are the last five.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
all_option = click.option(
    "--all",
    "whole",
    is_flag=True,
    help="Print every rank and group, however many; else, of many, what they have in common and "
    "those furthest from it. --json always has all.",
)


def chosen_steps(run: Run, steps: slice | None) -> Collection[int] | None:
    """The complete steps of the range; None for all.

    Raises:
        UsageError: the run has no complete step in that range.
    """
    if steps is None:
        return None
    count = max(run.steps, default=-1) + 1
    begin, end = (
        count + bound if bound < 0 else bound
        for bound in (steps.start, count if steps.stop is None else steps.stop)
    )
    wanted = range(max(begin, 0), end)
    found = [step for step in run.steps if step in wanted]
    if not found:
        had = f"{run.steps[0]} to {run.steps[-1]}" if run.steps else "none"
        asked = f"{steps.start}:{'' if steps.stop is None else steps.stop}"
        raise UsageError(f"{run.path}: no complete step in {asked}; complete steps: {had}")
    return found


def said_of_warm_up(first: WarmUp) -> str:
    """One line: what the first step does to the means, and how to leave it out."""
    return f"! {first}; --step {first.next_step}: leaves it out."
