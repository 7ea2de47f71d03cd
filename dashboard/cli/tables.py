"""Tables in the terminal: plain when piped, never narrower than their numbers need."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import IO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_PIPED_WIDTH = 100
_ANY_WIDTH = 10_000


def console() -> Console:
    """Standard output: as wide as the terminal, `_PIPED_WIDTH` columns into a pipe or file."""
    return plain_console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def plain_console(*, width: int | None, file: IO[str] | None = None) -> Console:
    """Shows names as they are: to Rich `[red]` and `:x:` would be markup and a picture."""
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def width_of(made: Table) -> int:
    """The width at which nothing of a table is wrapped."""
    return _measured(made).maximum


def show(out: Console, part: Table | Text) -> None:
    """Print: text is wrapped, but a table wider than the line runs over it and loses no digit."""
    if isinstance(part, Table):
        needed = _measured(part)
        part.width = max(needed.minimum, min(needed.maximum, out.width))
    out.print(part, crop=False)


def _measured(made: Table) -> Measurement:
    boundless = plain_console(width=_ANY_WIDTH)
    return Measurement.get(boundless, boundless.options, made)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1
) -> Table:
    """A table whose first `words` columns are text and the others numbers.

    Where it is wider than the line, text is wrapped between words; numbers stay whole.
    """
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    cells = [[Text(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        is_text = index < words
        content = [*column.splitlines(), *(str(row[index]) for row in cells)]
        if is_text:
            longest = max((len(word) for cell in content for word in cell.split()), default=0)
            made.add_column(column, justify="left", min_width=longest)
        else:  # of a known width Rich does not look through all cells, several times
            width = max(map(cell_len, content), default=0)
            made.add_column(column, justify="right", no_wrap=True, width=width)
    for row in cells:
        made.add_row(*row)
    return made


def ms(ns: float | None) -> str:
    """Nanoseconds as milliseconds with two digits."""
    return "–" if ns is None else f"{ns / 1e6:,.2f}"


def percent(part: float | None) -> str:
    """0.125 → `12.5 %`."""
    return "–" if part is None or math.isnan(part) else f"{100 * part:.1f} %"


def share(part: float, whole: float) -> str:
    """1 of 8 → `12.5%`: for cells of tables, where it stands close to others."""
    return f"{part / whole:.1%}" if whole else "–"


def gbps(value: float | None) -> str:
    """GB/s with three significant digits."""
    return "–" if value is None else f"{value:.3g}"


def counted(number: int, what: str) -> str:
    """1 → `1 step`, 1200 → `1,200 steps`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def size(value: float | None) -> str:
    """Bytes in decimal units: 4096 → `4.1 kB`."""
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
