"""`rankscope query RUN [RUN …] SQL`: ask runs in SQL."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from pyarrow import csv

from dashboard.cli.options import RunLocation, json_option, opened
from dashboard.export.columnar import as_text
from dashboard.sql import query as ask


@click.command()
@click.argument("paths", metavar="RUN [RUN …]", nargs=-1, required=True, type=RunLocation())
@click.argument("sql")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
def query(paths: tuple[Path | str, ...], sql: str, as_json: bool, as_csv: bool) -> None:
    """Ask one or several RUNs in SQL (DuckDB), read-only, over the views events, steps,
    accounting, collectives, p2p, counters and ranks. Their first column, run, tells runs apart.

    \b
    Times are in ns, sizes in bytes, bandwidths in GB/s. Quote "group": it is a word of SQL.
    SQL - is read from standard input. Tables are cut to what fits; --json and --csv are whole.

    \b
    Examples:
      rankscope query runs/a "select kind, count(*) from events group by 1"
      rankscope query runs/a "select rank, avg(duration)/1e6 as ms from steps group by 1"
      rankscope query runs/a runs/b "select run, avg(duration)/1e6 as ms from steps group by 1"
    """
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    result = ask([opened(path) for path in paths], sys.stdin.read() if sql == "-" else sql)
    if as_csv:
        csv.write_csv(as_text(result.table), sys.stdout.buffer)
    elif as_json:
        click.echo(json.dumps(result.to_json()["table"], allow_nan=False))
    else:
        click.echo(repr(result))
