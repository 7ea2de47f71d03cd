"""`rankscope compare A B`: what changed from run A to run B, in ms per step."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Final

import click

from dashboard.analysis.compare import STEP_TIME, Comparison
from dashboard.cli.options import json_option
from dashboard.cli.tables import console, show, table
from dashboard.run import open_run
from tracer.errors import UsageError

FINDING: Final = 1
_GATE: Final = re.compile(r"\s*(?P<what>[a-z_:]+)\s*>\s*(?P<limit>\d+(\.\d+)?)\s*(?P<unit>%|ms)\s*")


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--fail-on",
    "gates",
    multiple=True,
    metavar="'WHAT>LIMIT'",
    help="Exit with 1 if B is worse than A by more, and significantly so: 'step_time>2%', "
    "'comm:pp>1.5ms'. May be repeated.",
)
@json_option
def compare(a: Path, b: Path, gates: tuple[str, ...], as_json: bool) -> None:
    """Show what changed from run A to run B, by category, in ms per step.

    Each difference comes with a bootstrap 95 % interval; where it leaves out zero, the
    difference is marked *. The first step of each run is left out as warm-up.

    \b
    Examples:
      rankscope compare runs/before runs/after
      rankscope compare runs/main runs/branch --fail-on 'step_time>2%'
    """
    checks = [_parse(gate) for gate in gates]
    comparison = open_run(a).compare(open_run(b))
    failed = [said for check in checks if (said := _violated(comparison, *check))]
    if as_json:
        click.echo(json.dumps(comparison.to_json() | {"failed": failed}, indent=1))
    else:
        _print(comparison)
    for said in failed:
        click.echo(f"rankscope: {said}", err=True)
    sys.exit(FINDING if failed else 0)


def _print(comparison: Comparison) -> None:
    rows = [
        [
            row["category"],
            _ms(row["a_ms"]),
            _ms(row["b_ms"]),
            _ms(row["delta_ms"], sign=True),
            _interval(row["low_ms"], row["high_ms"]),
            "*" if comparison.significant(row["category"]) else "",
        ]
        for row in comparison.categories.to_pylist()
        if row["a_ms"] or row["b_ms"] or row["category"] == STEP_TIME
    ]
    title = f"{comparison.a} → {comparison.b}, ms per step (mean over ranks and steps)"
    columns = ["category", "A", "B", "B - A", "95 % interval", ""]
    out = console()
    show(out, table(title, columns, rows))
    for note in comparison.notes:
        out.print(f"- {note}", markup=False)


def _parse(gate: str) -> tuple[str, float, str]:
    match = _GATE.fullmatch(gate)
    if match is None:
        raise UsageError(f"--fail-on {gate!r}: write WHAT>LIMIT, such as 'step_time>2%'")
    return match["what"].replace("_", " "), float(match["limit"]), match["unit"]


def _violated(comparison: Comparison, what: str, limit: float, unit: str) -> str | None:
    rows = {row["category"]: row for row in comparison.categories.to_pylist()}
    if what not in rows:
        raise UsageError(f"--fail-on: no {what!r}; there are {', '.join(rows)}")
    row = rows[what]
    if row["delta_ms"] is None or not comparison.significant(what):
        return None
    grown = row["delta_ms"]
    if unit == "%":
        grown = 100 * grown / row["a_ms"] if row["a_ms"] else float("inf")
    if grown <= limit:
        return None
    return f"{what} grew by {grown:.2f} {unit}, more than {limit:g} {unit}"


def _ms(value: float | None, *, sign: bool = False) -> str:
    return "–" if value is None else f"{value:+,.3f}" if sign else f"{value:,.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None else f"{_ms(low, sign=True)} … {_ms(high, sign=True)}"
