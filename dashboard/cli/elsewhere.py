"""Options of the commands whose analyses other processes can work out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from dashboard.cli.progress import Advance, count_progress
from dashboard.run import Run
from dashboard.runs.opened import MANY_EVENTS, LazyTables
from dashboard.runs.packed_tables import PackedTables
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.cluster import Place

_KEPT_BYTES: Final = 32 << 20
"""Of events in memory. A command goes through the ranks once, one after the other, and then looks
at the few steps that are replayed."""

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Let the workers of this Dask scheduler do the work: tcp://host:8786. They read RUN "
        "under the same path or address. Needs rankscope[cluster].",
    ),
    click.option(
        "--workers", type=click.IntRange(1, 1024), help="Let so many processes do the work."
    ),
    click.option(
        "--steps-per-task",
        type=click.IntRange(1),
        help="Steps of a rank that one task takes care of.  [default: 2 million events, of "
        "one process 250,000 or fewer; short ranks share a task]",
    ),
)


@dataclass(kw_only=True, slots=True, frozen=True)
class Where:
    """Who does the work: if nothing is said, this process, and of a large run part by part."""

    scheduler: str | None
    workers: int | None
    steps_per_task: int | None

    @property
    def place(self) -> Place | None:
        """None for this process.

        Raises:
            UsageError: both are named.
        """
        if self.scheduler is not None and self.workers is not None:
            raise UsageError("--scheduler and --workers exclude each other: name one")
        from dashboard.cluster import Dask, Processes

        if self.scheduler is not None:
            return Dask(self.scheduler)
        return Processes(self.workers) if self.workers is not None else None

    def work(self, run: Run, together: Sequence[Callable[..., Any]]) -> None:
        """From now on these analyses of the run are worked out there, all at once."""
        if (self.scheduler, self.workers) == (None, None) and run.event_count < MANY_EVENTS:
            return
        from dashboard.cluster import Elsewhere, InProcess

        place = self.place
        if place is None:
            place = InProcess()
            if isinstance(run.tables, (LazyTables, PackedTables)):
                run.tables.kept_bytes = _KEPT_BYTES
        run.elsewhere = Elsewhere(
            run, place, together, steps_per_task=self.steps_per_task, watch=_watch
        )


def where_options(command: Command) -> Command:
    """`--scheduler`, `--workers` and `--steps-per-task`, as keywords of a `Where`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _watch(what: str, total: int) -> AbstractContextManager[Advance]:
    return count_progress(what, total)
