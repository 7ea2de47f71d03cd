"""`rankscope query RUN SQL`: ask a run in SQL."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dashboard.cli.options import json_option, run_argument
from dashboard.run import open_run


@click.command()
@run_argument
@click.argument("sql")
@json_option
def query(path: Path, sql: str, as_json: bool) -> None:
    """Ask RUN in SQL (DuckDB), read-only, over the views events, steps, accounting,
    collectives and ranks.

    \b
    Examples:
      rankscope query runs/a "select kind, count(*) from events group by 1"
      rankscope query runs/a "select rank, avg(duration)/1e6 as ms from steps group by 1"
    """
    result = open_run(path).sql(sql)
    click.echo(json.dumps(result.to_pylist(), default=str) if as_json else repr(result))
