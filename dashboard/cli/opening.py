"""Open a run for a command: with a progress bar where its files come from an object store."""

from __future__ import annotations

from pathlib import Path

from dashboard import run as runs
from dashboard.cli.progress import bytes_progress
from dashboard.run import Run
from dashboard.runs.stores import is_address, shown


def open_run(location: Path | str) -> Run:
    """As `dashboard.open_run`."""
    if not is_address(location):
        return runs.open_run(location)
    with bytes_progress(f"Reading {shown(str(location))}", None) as advance:
        return runs.open_run(location, advance=advance)
