"""`rankscope bandwidth RUN`: latency and bandwidth of each group, utilization, slow links."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from dashboard.analysis.communication.bandwidth_by_rank import bandwidth_by_rank
from dashboard.analysis.communication.latency_bandwidth import Line
from dashboard.analysis.communication.links import Links, links
from dashboard.cli.options import chosen_steps, json_option, opened, run_argument, steps_option
from dashboard.cli.tables import console, gbps, ms, percent, show, size, table
from dashboard.run import Run
from tracer.calibration_file import Calibration, read_calibration
from tracer.errors import UsageError

_NAMED = 3
"""Of the groups that a sentence is about: of hundreds it would fill the screen."""
_MOST_ROWS = 60
"""A run of a thousand ranks has hundreds of groups."""


@click.command("bandwidth")
@run_argument
@click.option("--by-rank", is_flag=True, help="What each rank measures of each size, too.")
@click.option(
    "--peak", "peaks", multiple=True, metavar="DIM=GB/s", help="What a link can carry: tp=450."
)
@click.option(
    "--calibration",
    "calibrated",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="In place of RUN/calibration.json.",
)
@steps_option
@json_option
def bandwidth(
    path: Path | str,
    by_rank: bool,
    peaks: Sequence[str],
    calibrated: Path | None,
    steps: slice | None,
    as_json: bool,
) -> None:
    """Say what the links of RUN take at least (α), carry at most (β), and which are slow.

    The time of an operation is α + S × factor / β: α in µs whatever the size, β in GB/s of bus
    bandwidth. Times are skew-free: from the last arrival on. What a link could do is known from
    --peak, from the run (`link_peaks`), or from `rankscope calibrate`.

    \b
    Examples:
      rankscope bandwidth runs/a                  lines, utilization, slow links
      rankscope bandwidth runs/a --peak tp=450    tp links carry 450 GB/s
      rankscope bandwidth runs/a --by-rank        and what each rank measures
      rankscope bandwidth runs/a --json | jq .slow
    """
    given = dict(_peak(said) for said in peaks)
    run = opened(path)
    chosen = chosen_steps(run, steps)
    calibration = None if calibrated is None else _calibration(calibrated)
    found = links(run, chosen, calibration=calibration, given=given)
    ranks = bandwidth_by_rank(run, chosen) if by_rank or as_json else None
    if as_json:
        by = [] if ranks is None else ranks.to_pylist()
        click.echo(json.dumps(found.to_json() | {"by_rank": by}, indent=1))
        return
    out = console()
    for part in _parts(run, found):
        show(out, part)
    if ranks is not None:
        show(out, _by_rank(ranks.to_pylist()))


def lines_table(title: str, lines: Sequence[Line]) -> Table:
    """One row per group and op: α, β, how far the line is off, and what it was made of."""
    rows = [
        [
            line.group,
            line.op,
            f"{line.count:,}",
            size(line.low_bytes)
            if line.low_bytes == line.high_bytes
            else f"{size(line.low_bytes)} to {size(line.high_bytes)}",
            _us(line.median_ns),
            _us(line.alpha_ns),
            gbps(line.beta_gbps),
            percent(line.error),
        ]
        for line in lines[:_MOST_ROWS]
    ]
    if len(lines) > _MOST_ROWS:
        title += f": {_MOST_ROWS} of {len(lines):,}, all with --json"
    columns = ["group", "op", "count", "sizes", "median µs", "α µs", "β GB/s", "error"]
    return table(title, columns, rows, words=2)


def _parts(run: Run, found: Links) -> Iterator[Table | Text]:
    if not run.steps:
        yield Text("No step is complete on every rank: call t.step() after each optimizer step.")
        return
    if not found.lines:
        yield Text("No operation with a payload, that a rank waited for, lies in these steps.")
    else:
        yield lines_table("Latency and bandwidth in the run, free of arrival skew", found.lines)
        yield from _whys(found.lines)
    if found.calibrated:
        yield lines_table("Latency and bandwidth as calibrated", found.calibrated)
    for note in found.notes:
        yield Text(f"! {note}", style="yellow")
    yield from _utilization(found)
    yield from slow_lines(found)


def slow_lines(found: Links) -> Iterator[Text]:
    """The slow links in words, or that there is none."""
    if not found.slow:
        yield Text("No link stands out among its peers.")
    for link in found.slow:
        yield Text(f"Slow link: {link}", style="bold")


def _whys(lines: Sequence[Line]) -> Iterator[Text]:
    """Why some lines have no α or β, once for each reason."""
    for why in dict.fromkeys(line.why for line in lines if line.why):
        names = [f"{line.group} {line.op}" for line in lines if line.why == why]
        more = len(names) - _NAMED
        those = ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        yield Text(f"{those}: {why}. `rankscope calibrate` sweeps sizes.", style="dim")


def _utilization(found: Links) -> Iterator[Table | Text]:
    rows = [
        [
            row["group"],
            row["op"],
            gbps(row["busbw_skew_free"]),
            gbps(row["peak"]),
            row["source"],
            percent(row["utilization"]),
        ]
        for row in found.utilization.to_pylist()
    ]
    if rows:
        columns = ["group", "op", "busbw", "peak", "peak is", "utilization"]
        yield table("Utilization of the links, GB/s, free of arrival skew", columns, rows, words=2)
    else:
        yield Text("No peak of a link is known: give --peak DIM=GB/s, or `rankscope calibrate`.")


def _by_rank(rows: Sequence[dict[str, Any]]) -> Table:
    shown = [
        [
            str(row["group"]),
            str(row["op"]),
            size(row["bytes"]),
            str(row["rank"]),
            f"{row['count']:,}",
            ms(row["seen_ns"]),
            ms(row["skew_free_ns"]),
            gbps(row["busbw_seen"]),
            gbps(row["busbw_skew_free"]),
        ]
        for row in rows
    ]
    columns = ["group", "op", "size", "rank", "count", "ms seen", "ms s.f.", "busbw", "busbw s.f."]
    return table("By rank: medians, as seen and free of arrival skew", columns, shown, words=2)


def _peak(said: str) -> tuple[str, float]:
    dim, _, number = said.partition("=")
    try:
        peak = float(number)
    except ValueError:
        peak = 0.0
    if not dim or not 0 < peak < float("inf"):
        raise click.BadParameter(f"{said!r}; write tp=450 (GB/s)", param_hint="--peak")
    return dim, peak


def _calibration(path: Path) -> Calibration:
    try:
        return read_calibration(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; `rankscope calibrate` writes one") from error


def _us(ns: float | None) -> str:
    return "–" if ns is None else f"{ns / 1e3:,.1f}"
