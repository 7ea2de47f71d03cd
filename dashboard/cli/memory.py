"""`rankscope memory RUN`: each rank's memory beside the microbatches that it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from rich.text import Text

from dashboard.analysis.memory.memory import RESIDENT, Memory, measure_memory
from dashboard.analysis.whole_run.flops import FlopsUtilization, flops_utilization
from dashboard.cli.abridged import (
    Numbers,
    furthest,
    furthest_from,
    is_shorter,
    left_out,
    peers_of,
    stages_of,
)
from dashboard.cli.options import (
    all_option,
    chosen_steps,
    json_option,
    opened,
    run_argument,
    steps_option,
)
from dashboard.cli.tables import console, show, size, table
from dashboard.run import Run

_BYTES: Final = ("peak_bytes", "mean_bytes")


@click.command("memory")
@run_argument
@steps_option
@json_option
@all_option
def memory(path: Path | str, steps: slice | None, as_json: bool, whole: bool) -> None:
    """Say how much memory each rank of RUN took at most, and how many microbatches it held.

    A microbatch is held from its forward on a stage to the end of its backward there. Also: model
    FLOPs utilization, where the run's config tells the FLOPs of a step.

    \b
    Examples:
      rankscope memory runs/a
      rankscope memory runs/a --step 10:20 --json | jq .memory.ranks
    """
    run = opened(path)
    chosen = chosen_steps(run, steps)
    found, flops = measure_memory(run, chosen), flops_utilization(run, chosen)
    if as_json:
        said = {"memory": found.to_json(), "flops": flops.to_json()}
        click.echo(json.dumps(said, indent=1))
        return
    _print(run, found, flops, whole=whole)


def _print(run: Run, found: Memory, flops: FlopsUtilization, *, whole: bool) -> None:
    ranks = found.ranks.to_pylist()
    rows = [[str(row["rank"]), *_cells(row)] for row in ranks]
    names = [stages_of(run, row["rank"]) for row in ranks]
    peers = peers_of(names)
    few = not whole and is_shorter(len(ranks), peers)
    if few:
        odd = furthest(_numbers(ranks), peers)
        rows = [
            [f"{names[those[0]]}most of {len(those):,}", *_cells(_most(ranks[p] for p in those))]
            for those in peers
        ]
        rows += [[f"{names[p]}rank {ranks[p]['rank']}", *_cells(ranks[p])] for p in odd]
    columns = ["rank", "peak", "mean", "microbatches held", "by the plan"]
    out = console()
    show(out, table("Memory per rank, and the most microbatches held at once", columns, rows))
    if few:
        out.print(left_out(len(odd), len(ranks), "rank", furthest_from(names)))
    if found.counter is None:
        out.print(Text("No memory was sampled in these steps: they are too short, or too old."))
    elif found.counter == RESIDENT:
        out.print(Text("Memory is that of the process, its libraries included: no device was used"))
    out.print(Text(f"Model FLOPs utilization: {flops}"))


def _cells(row: Mapping[str, Any]) -> list[str]:
    planned = row["plan_in_flight"]
    return [
        *("–" if row[name] is None else size(row[name]) for name in _BYTES),
        str(row["peak_in_flight"]),
        "–" if planned is None else str(planned),
    ]


def _numbers(rows: Sequence[Mapping[str, Any]]) -> Numbers:
    """By what ranks differ: their memory, or where none was sampled the microbatches they hold."""
    held = [[row["peak_in_flight"]] for row in rows]
    sampled = [[row[name] or 0 for name in _BYTES] for row in rows]
    return np.array(sampled if np.any(sampled) else held, np.float64)


def _most(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The largest of each column: the rank with least room left decides."""
    columns = (*_BYTES, "peak_in_flight", "plan_in_flight")
    those = list(rows)
    known = {name: [row[name] for row in those if row[name] is not None] for name in columns}
    return {name: max(values, default=None) for name, values in known.items()}
