"""`rankscope memory RUN`: each rank's memory beside the microbatches that it holds."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.text import Text

from dashboard.analysis.memory.memory import RESIDENT, Memory, measure_memory
from dashboard.analysis.whole_run.flops import FlopsUtilization, flops_utilization
from dashboard.cli.options import chosen_steps, json_option, opened, run_argument, steps_option
from dashboard.cli.tables import console, show, size, table


@click.command("memory")
@run_argument
@steps_option
@json_option
def memory(path: Path | str, steps: slice | None, as_json: bool) -> None:
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
    _print(found, flops)


def _print(found: Memory, flops: FlopsUtilization) -> None:
    rows = [
        [
            str(row["rank"]),
            "–" if row["peak_bytes"] is None else size(row["peak_bytes"]),
            "–" if row["mean_bytes"] is None else size(row["mean_bytes"]),
            str(row["peak_in_flight"]),
            "–" if row["plan_in_flight"] is None else str(row["plan_in_flight"]),
        ]
        for row in found.ranks.to_pylist()
    ]
    columns = ["rank", "peak", "mean", "microbatches held", "by the plan"]
    out = console()
    show(out, table("Memory per rank, and the most microbatches held at once", columns, rows))
    if found.counter is None:
        out.print(Text("No memory was sampled in these steps: they are too short, or too old."))
    elif found.counter == RESIDENT:
        out.print(Text("Memory is that of the process, its libraries included: no device was used"))
    out.print(Text(f"Model FLOPs utilization: {flops}"))
