"""What several commands take: run paths and step ranges."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from dashboard.run import Run
from tracer.errors import UsageError

run_argument = click.argument("path", metavar="RUN", type=click.Path(path_type=Path))


class StepRange(click.ParamType[slice]):
    """`A:B`, half-open as in Python; `A:` and `:B` too; a lone `A` is that step."""

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
            end = (int(last) if last else None) if colon else begin + 1
        except ValueError:
            self.fail(f"{value!r} is not a range of steps; write 10:20, 10:, :20 or 10")
        return slice(begin, end)


steps_option = click.option(
    "--step", "steps", type=StepRange(), help="Only these steps, half-open: 10:20, 10:, :20, 10."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


def chosen_steps(run: Run, steps: slice | None) -> Collection[int] | None:
    """The complete steps of the range; None for all.

    Raises:
        UsageError: the run has no complete step in that range.
    """
    if steps is None:
        return None
    wanted = range(steps.start, max(run.steps, default=0) + 1 if steps.stop is None else steps.stop)
    found = [step for step in run.steps if step in wanted]
    if not found:
        had = f"{run.steps[0]} to {run.steps[-1]}" if run.steps else "none"
        asked = f"{wanted.start}:{wanted.stop}"
        raise UsageError(f"{run.path}: no complete step in {asked}; complete steps: {had}")
    return found
