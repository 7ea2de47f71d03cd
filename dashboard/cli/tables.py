"""Tables in the terminal: plain when piped, never narrower than their numbers need."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPED_WIDTH = 120


def console() -> Console:
    """Standard output: as wide as the terminal, `_PIPED_WIDTH` columns into a pipe or file."""
    piped = not sys.stdout.isatty()
    return Console(width=_PIPED_WIDTH if piped else None, highlight=False, soft_wrap=False)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1
) -> Table:
    """A table whose first `words` columns are text and the others numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        made.add_column(
            column, justify="left" if index < words else "right", no_wrap=index >= words
        )
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def ms(ns: float | None) -> str:
    """Nanoseconds as milliseconds with two digits."""
    return "–" if ns is None else f"{ns / 1e6:,.2f}"


def percent(share: float | None) -> str:
    """0.125 → `12.5 %`."""
    return "–" if share is None else f"{100 * share:.1f} %"


def gbps(value: float | None) -> str:
    """GB/s with three significant digits."""
    return "–" if value is None else f"{value:.3g}"


def size(value: float | None) -> str:
    """Bytes in decimal units: 4096 → `4.1 kB`."""
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
