"""`rankscope import FORMAT PATHS -o RUN`: make a run of what another tool recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from collectors.importers.formats import IMPORTERS, Format, files_of, format_named
from dashboard.run import open_run
from dashboard.runs.foreign import import_with_progress


class _Formats(click.Group):
    """One command per format of the registry."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(IMPORTERS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _command(format_named(cmd_name)) if cmd_name in IMPORTERS else None


@click.group("import", cls=_Formats)
def import_() -> None:
    """Make a run of what another tool recorded; every command then works on it.

    \b
    Examples:
      rankscope import kineto traces/ -o runs/a      a folder of torch.profiler traces
      rankscope report traces/                       the same at once, kept in a cache
      rankscope import kineto --help                 what is read, and what is lost

    What a format does not hold is said by report and dashboard. docs/importing.md has it all.
    """


def _command(format: Format) -> click.Command:
    options: list[click.Parameter] = [
        click.Argument(["paths"], nargs=-1, required=True, type=click.Path(path_type=Path)),
        click.Option(
            ["-o", "--out"],
            required=True,
            type=click.Path(path_type=Path),
            metavar="RUN",
            help="The run directory to make.",
        ),
        click.Option(["--overwrite"], is_flag=True, help="Replace RUN if it was imported before."),
    ]
    options += [
        click.Option(
            [f"--{option.name}"],
            default=option.default,
            show_default=bool(option.default),
            help=option.help,
            type=click.Choice(option.choices) if option.choices else str,
        )
        for option in format.options
    ]
    return click.Command(
        format.name,
        params=options,
        callback=lambda **given: _import(format, **given),
        help=format.help,
        short_help=format.title,
    )


def _import(
    format: Format, paths: tuple[Path, ...], out: Path, overwrite: bool, **options: Any
) -> None:
    files = files_of(format, paths)
    how = {"overwrite": overwrite} | options
    import_with_progress(format, files, out, console=Console(stderr=True), **how)
    run = open_run(out)
    click.echo(
        f"{out}: {len(run.ranks)} of {run.meta.world_size} ranks, {len(run.steps)} steps, "
        f"{run.event_count:,} events · clocks: {run.clock}"
    )
    for sentence in run.meta.source.lacks if run.meta.source else ():
        click.echo(f"  {sentence}")
    click.echo(f"Read it: rankscope report {out}    See it: rankscope dashboard {out}")
