"""`rankscope kernels RUN`: what each device did, and which kernels took its time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from rich.table import Table
from rich.text import Text

from dashboard.analysis.time_spent.kernel_breakdown import KernelBreakdown
from dashboard.analysis.time_spent.temporal_breakdown import TemporalBreakdown
from dashboard.cli.options import chosen_steps, json_option, opened, run_argument, steps_option
from dashboard.cli.tables import console, ms, percent, share, show, table

_NAME: Final = 60
"""Characters of a kernel's name in the table; the JSON has them all."""


@click.command("kernels")
@run_argument
@steps_option
@click.option(
    "--top",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="Kernels to show, summed over the ranks.",
)
@json_option
def kernels(path: Path | str, steps: slice | None, top: int, as_json: bool) -> None:
    """Say how the device of each rank of RUN spent its time: idle, compute, or neither, how far
    compute hid communication, and which kernels took most.

    The definitions are those of Holistic Trace Analysis (temporal breakdown, overlap, kernel
    breakdown). Kernels come from imported traces (rankscope import) and from kernel windows
    (Tracer(kernels=Window(every=500, steps=2))).

    \b
    Examples:
      rankscope kernels runs/a
      rankscope kernels runs/a --step :-1 --top 30
      rankscope kernels runs/a --json | jq .temporal_breakdown.ranks
    """
    run = opened(path)
    chosen = chosen_steps(run, steps)
    temporal, breakdown = run.temporal_breakdown(chosen), run.kernel_breakdown(chosen)
    if as_json:
        said = {"temporal_breakdown": temporal.to_json(), "kernel_breakdown": breakdown.to_json()}
        click.echo(json.dumps(said, indent=1))
        return
    out = console()
    if not temporal.ranks.num_rows:
        out.print(
            Text(
                "No device kernels in these steps: import a trace of a GPU (rankscope import), or "
                "record kernel windows (RANKSCOPE_KERNELS=500:2)."
            )
        )
        return
    show(out, _temporal(temporal))
    show(out, _at_once(breakdown))
    for part in _kernels(breakdown, top):
        show(out, part)


def _temporal(found: TemporalBreakdown) -> Table:
    rows = [
        [
            str(row["rank"]),
            ms(row["kernel_time_ns"]),
            *(
                f"{ms(row[part])} {share(row[part], row['kernel_time_ns']):>6}"
                for part in ("idle_ns", "compute_ns", "non_compute_ns")
            ),
            ms(row["communication_ns"]),
            percent(row["overlap"]),
        ]
        for row in found.ranks.to_pylist()
    ]
    columns = ["rank", "kernel time", "idle", "compute", "non-compute", "communication", "overlap"]
    return table("Device time, ms: from the first kernel to the last", columns, rows)


def _at_once(found: KernelBreakdown) -> Table:
    sums: dict[str, int] = {}
    for row in found.by_purpose.to_pylist():
        sums[row["running"]] = sums.get(row["running"], 0) + row["duration_ns"]
    total = sum(sums.values())
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    rows = [[running, ms(duration), share(duration, total)] for running, duration in ranked]
    return table("What ran at once, ms over all ranks", ["running", "time", "share"], rows)


def _kernels(found: KernelBreakdown, top: int) -> Iterator[Table | Text]:
    by_name = found.kernels.group_by(["name", "purpose"]).aggregate(
        [("count", "sum"), ("sum_ns", "sum"), ("min_ns", "min"), ("max_ns", "max")]
    )
    ranked = by_name.sort_by([("sum_ns_sum", "descending"), ("name", "ascending")])
    total = sum(ranked["sum_ns_sum"].to_pylist())
    rows = [
        [
            row["name"] if len(row["name"]) <= _NAME else row["name"][: _NAME - 1] + "…",
            row["purpose"],
            f"{row['count_sum']:,}",
            ms(row["sum_ns_sum"]),
            share(row["sum_ns_sum"], total),
            *(
                f"{value / 1e3:,.1f}"
                for value in (
                    row["sum_ns_sum"] / row["count_sum"],
                    row["min_ns_min"],
                    row["max_ns_max"],
                )
            ),
        ]
        for row in ranked.slice(0, top).to_pylist()
    ]
    columns = ["kernel", "purpose", "count", "sum, ms", "share", "mean, µs", "least", "most"]
    yield table("Kernels that took most, over all ranks", columns, rows, words=2)
    if ranked.num_rows > top:
        yield Text(f"{ranked.num_rows - top:,} more kernels; --top shows more, --json all")
