"""All that a user does with a run, in one call: it works, or an error of ours says why not."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from dashboard import Run, open_run
from dashboard.cli.command_line import rankscope
from dashboard.pages.app import PAGES
from dashboard.pages.state import parse
from dashboard.timeline.build import build_timeline
from dashboard.timeline.details import event_details
from dashboard.timeline.lanes import Timeline
from dashboard.timeline.window import MAX_ROWS, Window, query
from dashboard.timeline.wire import encode
from tracer.errors import RankscopeError, TraceError
from tracer.streams import read_stream

COMMANDS: Final = (
    ("report", "{run}"),
    ("report", "{run}", "--json"),
    ("check", "{run}"),
    ("critical-path", "{run}"),
    ("whatif", "{run}"),
    ("stragglers", "{run}"),
    ("compare", "{run}", "{run}"),
    ("query", "{run}", "select * from collectives, accounting, steps, ranks, events limit 3"),
)
MOST_OUTPUT: Final = 4_000_000
"""Characters that a command may print of a run of some hundred events."""


def use_all(path: Path, *, pages: bool = True, most_output: int = MOST_OUTPUT) -> str:
    """Use the run, its pages too if wanted (they take as long as all else together); returns what
    came of it. Anything that a user should not see is raised.
    """
    for file in sorted(path.iterdir()):
        _read_alone(file)
    try:
        run = open_run(path)
    except RankscopeError as error:
        check_message(str(error), path)
        return f"refused: {error}"
    for command in COMMANDS:
        _check_command(command, path, most_output)
    for timeline in (build_timeline(run), build_timeline(run, few_events=0)):
        for window in _windows(timeline):
            picture = query(timeline, window)
            encode(timeline, picture, asked_ns_per_pixel=window.ns_per_pixel)
    for rank, table in timeline.tables.items():
        for row in {0, table.num_rows - 1} if table.num_rows else ():
            event_details(timeline, rank, row)
    if pages:
        _lay_out_pages(run)
    return "used"


def _read_alone(file: Path) -> None:
    """Counters and clock samples: files that no command opens by itself."""
    for content in ("counters", "clock"):
        if file.name.endswith(f".{content}.arrows"):
            try:
                read_stream(file, content).table.to_pylist()
            except TraceError as error:
                check_message(str(error), file)


def _check_command(command: tuple[str, ...], path: Path, most_output: int) -> None:
    arguments = [word.format(run=path) for word in command]
    done = CliRunner().invoke(rankscope, arguments)
    error = done.exception
    if isinstance(error, RankscopeError):
        check_message(str(error), path)
    elif error is not None and not isinstance(error, SystemExit):
        raise error
    assert done.exit_code in (0, 1), (command, done.output)
    assert len(done.output) < most_output, f"{command}: printed {len(done.output):,} characters"
    _check_characters(done.output, command[0])


def check_message(message: str, path: Path) -> None:
    """An error names its file, is of some length, and does nothing to a terminal."""
    assert str(path) in message, f"does not name its file: {message[:200]}"
    assert len(message) < 10_000, f"{len(message):,} characters long: {message[:200]}"
    _check_characters(message, "error")


def _check_characters(text: str, what: str) -> None:
    """A terminal obeys control characters; what a file holds must not reach it as such."""
    odd = {c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"}
    assert not odd, f"{what}: control characters {odd} in the output"


def _windows(timeline: Timeline) -> Iterator[Window]:
    start, end = timeline.span
    for first, last, width in ((start, end, 1), (start, end, 1000), (start, start + 1, 16_384)):
        yield Window(start=first, end=last, width=width, first_row=0, end_row=MAX_ROWS)


def _lay_out_pages(run: Run) -> None:
    state = parse("", 1)
    for page in PAGES:
        try:
            page.layout([run], state).to_plotly_json()
        except RankscopeError as error:
            _check_characters(str(error), page.TITLE)
