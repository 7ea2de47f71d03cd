"""`rankscope export RUN --to FORMAT`: a run for other tools."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from dashboard.analysis.whole_run.views import VIEWS
from dashboard.cli.options import chosen_steps, opened, run_argument, steps_option
from dashboard.cli.tables import counted, size
from dashboard.export.files import STANDARD_OUTPUT
from dashboard.export.formats import FORMATS, default_name
from dashboard.export.formats import export as write


class Ranks(click.ParamType[tuple[int, ...]]):
    """`0-3,8`: ranks and ranges of them, both ends included."""

    name = "A-B,C"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The ranks that `value` means, or click's usage error."""
        if isinstance(value, tuple):
            return value
        found: list[int] = []
        for part in str(value).split(","):
            first, dash, last = part.partition("-")
            try:
                found += range(int(first), int(last if dash else first) + 1)
            except ValueError:
                self.fail(f"{value!r} is not a list of ranks; write 0-7, 0,4 or 3")
        return tuple(found)


@click.command()
@run_argument
@click.option(
    "--to",
    "format",
    required=True,
    type=click.Choice(list(FORMATS)),
    help="; ".join(f"{name}: {found.title}" for name, found in FORMATS.items()) + ".",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="File or directory to write; by default the run's name in this directory. A name that "
    "ends with .gz is compressed; - is standard output (csv).",
)
@steps_option
@click.option("--rank", "ranks", type=Ranks(), help="Only these ranks: 0-7, 0,4 or 3.")
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=click.Choice(list(VIEWS)),
    help="Of parquet and csv: which view. Parquet takes several; by default events and counters, "
    "of csv events.",
)
def export(
    path: Path | str,
    format: str,
    out: Path | None,
    steps: slice | None,
    ranks: tuple[int, ...] | None,
    tables: Collection[str],
) -> None:
    """Write RUN, or some of its steps and ranks, in a format that other tools read. All times are
    on the clock that the ranks share.

    \b
    Examples:
      rankscope export runs/a --to perfetto --step 10:12       then open it at ui.perfetto.dev
      rankscope export runs/a --to chrome -o a.json.gz
      rankscope export runs/a --to parquet -o a.parquet
      rankscope export runs/a --to csv --table steps -o -      to standard output

    docs/exporting.md says what becomes of what.
    """
    run = opened(path)
    chosen = chosen_steps(run, steps)
    if format == "csv" and not tables:
        tables = ("events",)
    target = out or default_name(run, format, tables)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True)
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar as progress:
        total = len(run.ranks if ranks is None else ranks)
        task = progress.add_task(f"Writing {target}", total=total)
        write(
            run, format, target, ranks=ranks, steps=chosen, tables=tables,
            advance=lambda done: progress.advance(task, done),
        )  # fmt: skip
    if target != STANDARD_OUTPUT:
        click.echo(f"{target}: {_size(target)}", err=True)


def _size(target: Path) -> str:
    paths = [path for path in target.rglob("*") if path.is_file()] if target.is_dir() else [target]
    written = size(float(sum(path.stat().st_size for path in paths)))
    return f"{written} in {counted(len(paths), 'file')}" if target.is_dir() else written
