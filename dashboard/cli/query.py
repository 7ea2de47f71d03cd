"""`rankscope query RUN [RUN …] SQL`: ask runs in SQL."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dashboard.cli.options import RunLocation, json_option, opened
from dashboard.sql import query as ask


@click.command()
@click.argument("paths", metavar="RUN [RUN …]", nargs=-1, required=True, type=RunLocation())
@click.argument("sql")
@json_option
def query(paths: tuple[Path | str, ...], sql: str, as_json: bool) -> None:
    """Ask one or several RUNs in SQL (DuckDB), read-only, over the views events, steps,
    accounting, collectives, p2p, counters and ranks. Their first column, run, tells runs apart.

    \b
    Times are in ns, sizes in bytes, bandwidths in GB/s. Quote "group": it is a word of SQL.

    \b
    Examples:
      rankscope query runs/a "select kind, count(*) from events group by 1"
      rankscope query runs/a "select rank, avg(duration)/1e6 as ms from steps group by 1"
      rankscope query runs/a runs/b "select run, avg(duration)/1e6 as ms from steps group by 1"
    """
    result = ask([opened(path) for path in paths], sql)
    click.echo(json.dumps(result.to_json()["table"], allow_nan=False) if as_json else repr(result))
