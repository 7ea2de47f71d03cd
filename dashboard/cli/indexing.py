"""Before a large run is served: its timeline's index is made, with a progress bar."""

from __future__ import annotations

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from dashboard.cli.opening import open_run
from dashboard.run import Run
from dashboard.timeline.index import needs_index, open_timeline


def indexed(run: Run) -> Run:
    """The run with an index of its timeline, if it is so large that it needs one; then it is opened
    anew, so that the events that were read for the index do not stay in memory.
    """
    if not needs_index(run):
        return run
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(
            f"Index of {run.name} ({run.event_count:,} events)", total=2 * run.event_count
        )
        open_timeline(run, advance=lambda events: progress.advance(task, events))
        progress.update(task, completed=2 * run.event_count)
    source = run.source
    del run
    pa.default_memory_pool().release_unused()
    return open_run(source)
