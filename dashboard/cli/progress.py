"""Progress bars of long work, on standard error, and only where somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Advance = Callable[[int], object]


@contextmanager
def bytes_progress(what: str, total: int | None) -> Iterator[Advance]:
    """A bar of bytes; yields what is to be told of each part that is done."""
    with _bar(what, total, DownloadColumn(), TransferSpeedColumn()) as advance:
        yield advance


@contextmanager
def count_progress(what: str, total: int | None) -> Iterator[Advance]:
    """A bar of things that are counted."""
    with _bar(what, total, MofNCompleteColumn()) as advance:
        yield advance


@contextmanager
def _bar(what: str, total: int | None, *columns: ProgressColumn) -> Iterator[Advance]:
    console = Console(stderr=True)
    shown = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
    )
    with Progress(*shown, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
