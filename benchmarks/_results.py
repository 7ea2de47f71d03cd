"""Figures of several benchmarks: what is aimed at, a file of them, and tables that people read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import click
from rich.console import Console
from rich.table import Table

from benchmarks import _machine


@dataclass(kw_only=True, slots=True, frozen=True)
class Goal:
    """What a figure should be: at least or at most `value`."""

    at_least: bool
    value: float

    def is_reached(self, found: float) -> bool:
        """By this value."""
        return found >= self.value if self.at_least else found <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


def _least(value: float) -> Goal:
    return Goal(at_least=True, value=value)


def _most(value: float) -> Goal:
    return Goal(at_least=False, value=value)


GOALS: Final[dict[str, Goal]] = {
    r"overhead\.vs_torch_profiler": _least(10),
    r"overhead\.step_100ms_percent": _most(1),
    r"overhead\.ns_per_span": _most(600),
    r"overhead\.ns_per_collective": _most(2_000),
    r"disk\.bytes_per_event": _most(8),
    r"hta\.speedup": _least(20),
    r"hta\.memory_ratio": _least(10),
    r"window\.vs_perfetto": _least(1),
    r"window\.load_vs_perfetto": _least(1),
    r"follow\.delay_p95": _most(2),
    r"timeline\.window_p95_ms_\w+": _most(50),
    r"timeline\.(window|all_rows)_most_kb_\w+": _most(300),
    r"timeline\.first_paint_ms_\w+": _most(2_000),
    r"scale\.report_exponent_in_(events|ranks)": _most(1),
    r"scale\.window_growth_by_events": _most(1.5),
    r"scale\.report_peak_growth_by_events": _most(1.5),
    r"scale\.report_speedup_of_2_workers": _least(1),
}
"""By the name of a figure, a regular expression. *Flat* is: half as much again at most."""


def goal_of(name: str) -> Goal | None:
    """What is aimed at, if anything."""
    return next((goal for like, goal in GOALS.items() if re.fullmatch(like, name)), None)


class Results:
    """The figures of one sitting; into a file as they come, if there is one.

    Its first line says on which machine, with which versions and when. An interrupted sitting
    leaves the figures that there were.
    """

    def __init__(self, file: Path | None, command: str) -> None:
        self.figures: list[dict[str, Any]] = []
        self.machine = _machine.facts()
        self._file = None
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = file.open("w", encoding="utf-8")
            self._write({"command": command} | self.machine)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, figure: dict[str, Any]) -> None:
        """Keep one more."""
        self.figures.append(figure)
        self._write(figure)

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


SAVE: Final = click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the figures there, JSON lines after one with the machine and the versions.",
)


def command_line() -> str:
    """What was called, without the paths of the machine."""
    module = "benchmarks" if sys.argv[0].endswith("__main__.py") else Path(sys.argv[0]).stem
    name = module if module == "benchmarks" else f"benchmarks.{module}"
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    return " ".join(["python -m", name, *words])


def print_figures(figures: Iterable[dict[str, Any]]) -> None:
    """All of them, and then those that something is aimed at, on standard output."""
    figures = list(figures)
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(_table("All figures", figures))
    print_goals(figures, console)


def print_goals(figures: Iterable[dict[str, Any]], console: Console) -> None:
    """Those that something is aimed at, and whether it is reached."""
    aimed = [figure for figure in figures if goal_of(figure["name"]) is not None]
    if aimed:
        console.print(_table("Goals", aimed))


def _table(title: str, figures: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("figure", overflow="fold")
    table.add_column("measured", justify="right")
    table.add_column("unit")
    table.add_column("goal", justify="right")
    table.add_column("reached")
    for figure in figures:
        goal = goal_of(figure["name"])
        reached = "" if goal is None else "yes" if goal.is_reached(figure["value"]) else "NO"
        measured, unit = _number(figure["value"]), figure["unit"]
        table.add_row(figure["name"], measured, unit, str(goal or ""), reached)
    return table


def _number(value: float) -> str:
    """1234567.0 → 1,234,567; 12.3456 → 12.35; 0.00123 → 0.0012."""
    if value == int(value) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.2g}"
