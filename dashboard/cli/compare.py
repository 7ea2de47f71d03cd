"""`rankscope compare A B`: what changed from run A to run B, in ms per step."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from dashboard.analysis.comparing.compare import STEP_TIME, Comparison
from dashboard.analysis.comparing.gates import parse_gate, violation
from dashboard.analysis.comparing.questions import questions
from dashboard.analysis.comparing.trend import Trend, trend
from dashboard.cli.elsewhere import Where, where_options
from dashboard.cli.opening import open_run
from dashboard.cli.options import RunLocation, chosen_steps, json_option, steps_option
from dashboard.cli.tables import console, show, table
from dashboard.run import Run
from tracer.errors import UsageError

FINDING: Final = 1
_OPERATIONS: Final = 8
"""Rows that fit below the categories on one screen; --json has all."""


@click.command()
@click.argument("paths", metavar="A B [C …]", nargs=-1, type=RunLocation())
@click.option(
    "--fail-on",
    "gates",
    multiple=True,
    metavar="'WHAT>LIMIT'",
    help="Exit with 1 if B is worse than A by more, and its interval leaves out zero: "
    "'step_time>2%', 'comm:pp>1.5ms', 'bubble_ratio>0.02'. May be repeated.",
)
@click.option(
    "--repeat",
    "repeats",
    multiple=True,
    metavar="RUN",
    type=RunLocation(),
    help="Another recording of what A records: only what differs more than these do counts. May "
    "be repeated; five or more are best.",
)
@click.option(
    "--least",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Percent of A's step time from which on a difference is marked: two recordings of one job "
    "differ by as much.  [default: 2; with --repeat 0.5]",
)
@steps_option
@json_option
@where_options
def compare(
    paths: Sequence[Path | str],
    gates: tuple[str, ...],
    repeats: tuple[Path | str, ...],
    least: float | None,
    steps: slice | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Show what changed from run A to run B, by category and operation, in ms per step.

    Each difference has a bootstrap 95 % interval; what is beyond chance, all rows taken together,
    and not less than recordings of one job differ by (--least), is marked *. The first step of
    each run is left out as warm-up. Further runs are each compared with A.

    \b
    Examples:
      rankscope compare runs/before runs/after
      rankscope compare runs/before runs/after --step 10:50
      rankscope compare runs/main runs/branch --fail-on 'step_time>2%' --fail-on 'bubble_ratio>0.02'
      rankscope compare runs/main-1 runs/branch --repeat runs/main-2 --repeat runs/main-3
      rankscope compare runs/monday runs/tuesday runs/wednesday
    """
    if len(paths) < 2:
        raise UsageError(
            "compare needs at least two runs: rankscope compare runs/before runs/after"
        )
    checks = [parse_gate(said) for said in gates]
    elsewhere = Where(**where)
    runs, again = ([open_run(path) for path in those] for those in (paths, repeats))
    chosen = _chosen(runs, steps)
    asked = questions(runs, chosen, repeats=again)
    for run in (*runs, *again):
        elsewhere.work(run, [asked[run].sums])
    found = trend(
        runs,
        chosen,
        repeats=again,
        relevant=None if least is None else least / 100,
    )
    failed = [
        said
        for comparison in found.comparisons
        for check in checks
        if (said := violation(comparison, check))
    ]
    if as_json:
        shown = found.comparisons[0] if len(runs) == 2 else found
        click.echo(json.dumps(shown.to_json() | {"failed": failed}, indent=1))
    elif len(runs) == 2:
        _print(found.comparisons[0])
    else:
        _print_trend(found)
    for said in failed:
        click.echo(f"rankscope: {said}", err=True)
    sys.exit(FINDING if failed else 0)


def _chosen(runs: Sequence[Run], steps: slice | None) -> Collection[int] | None:
    if steps is None:
        return None
    return {step for run in runs for step in chosen_steps(run, steps) or ()}


def _print(comparison: Comparison) -> None:
    out = console()
    title = f"{comparison.a} → {comparison.b}, ms per step (mean over ranks and steps)"
    columns = ["category", "A", "B", "B - A", "95 % interval", ""]
    rows = [
        [row["category"], *_numbers(row)]
        for row in comparison.categories.to_pylist()
        if row["a_ms"] or row["b_ms"] or row["category"] == STEP_TIME
    ]
    show(out, table(title, columns, rows))
    _print_ratios(out, comparison)
    _print_operations(out, comparison)
    _print_said(out, comparison)


def _print_ratios(out: Console, comparison: Comparison) -> None:
    for row in comparison.ratios.to_pylist():
        a, b, delta = (100 * row[name] for name in ("a", "b", "delta"))
        said = f"{row['ratio']}: {a:.2f} % → {b:.2f} %, {delta:+.2f}"
        if row["low"] is not None:
            said += f" ({100 * row['low']:+.2f} … {100 * row['high']:+.2f})"
        out.print(said + " *" * bool(row["significant"]))


def _print_operations(out: Console, comparison: Comparison) -> None:
    rows = [row for row in comparison.operations.to_pylist() if row["delta_ms"]]
    if not rows:
        return
    columns = ["operation", "stage", "A", "B", "B - A", "95 % interval", ""]
    shown = [[_operation(row), _stage(row), *_numbers(row)] for row in rows[:_OPERATIONS]]
    out.print()
    show(out, table("Operations that changed most, ms per step (mean over ranks)", columns, shown))


def _print_said(out: Console, comparison: Comparison) -> None:
    for said in (*comparison.notes, *comparison.differences):
        out.print(f"- {said}")


def _print_trend(found: Trend) -> None:
    out = console()
    columns = ["run", "steps", "step", "95 % interval", "to first", "95 % interval", ""]
    rows = [
        [
            row["run"],
            str(row["steps"]),
            _ms(row["step_ms"]),
            _interval(row["low_ms"], row["high_ms"], sign=False),
            _ms(row["delta_ms"], sign=True),
            _interval(row["delta_low_ms"], row["delta_high_ms"]),
            "*" if row["significant"] else "",
        ]
        for row in found.table.to_pylist()
    ]
    show(out, table("Step time, ms (mean over ranks and steps)", columns, rows))
    for comparison in found.comparisons:
        out.print(f"\n{comparison.a} → {comparison.b}", style="bold")
        changed = [
            f"{row['category']} {row['delta_ms']:+,.3f} ms"
            for row in comparison.categories.to_pylist()
            if row["significant"]
        ]
        out.print("- beyond chance: " + (", ".join(changed) if changed else "nothing"))
        _print_said(out, comparison)


def _operation(row: dict[str, Any]) -> str:
    what = row["name"] if row["kind"] in ("", row["name"]) else f"{row['kind']} {row['name']}"
    return f"{row['category']}: {what}"


def _stage(row: dict[str, Any]) -> str:
    return "–" if row["stage"] is None else str(row["stage"])


def _numbers(row: dict[str, Any]) -> list[str]:
    return [
        _ms(row["a_ms"]),
        _ms(row["b_ms"]),
        _ms(row["delta_ms"], sign=True),
        _interval(row["low_ms"], row["high_ms"]),
        "*" if row["significant"] else "",
    ]


def _ms(value: float | None, *, sign: bool = False) -> str:
    return "–" if value is None else f"{value:+,.3f}" if sign else f"{value:,.3f}"


def _interval(low: float | None, high: float | None, *, sign: bool = True) -> str:
    return "–" if low is None else f"{_ms(low, sign=sign)} … {_ms(high, sign=sign)}"
