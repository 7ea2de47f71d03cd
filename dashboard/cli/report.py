"""`rankscope report RUN`: time accounting, bubbles and bandwidth, in the terminal or as JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

import click
from rich.console import RenderableType
from rich.text import Text

from dashboard.analysis.accounting import CATEGORIES, Accounting
from dashboard.analysis.bandwidth import Bandwidth
from dashboard.analysis.bubbles import Bubbles
from dashboard.analysis.findings import findings
from dashboard.cli.options import chosen_steps, json_option, run_argument, steps_option
from dashboard.cli.tables import console, gbps, ms, percent, size, table
from dashboard.run import Run, open_run


@click.command()
@run_argument
@steps_option
@json_option
def report(path: Path, steps: slice | None, as_json: bool) -> None:
    """Say where the step time of RUN went, on which rank.

    \b
    Examples:
      rankscope report runs/a                 all complete steps
      rankscope report runs/a --step 10:20    steps 10 to 19
      rankscope report runs/a --json | jq .bubbles.steps
    """
    run = open_run(path)
    chosen = chosen_steps(run, steps)
    if as_json:
        click.echo(json.dumps(report_json(run, chosen), indent=1))
        return
    out = console()
    for part in _parts(run, chosen):
        out.print(part)


def report_json(run: Run, steps: Collection[int] | None) -> dict[str, Any]:
    """Everything that the report is made of, in plain values (times in ns, bandwidth in GB/s)."""
    return {
        "run": {
            "name": run.name,
            "run_id": run.meta.run_id,
            "world_size": run.meta.world_size,
            "ranks": list(run.ranks),
            "steps": list(run.steps),
            "clock": {"method": run.clock.method, "bound_ns": run.clock.bound_ns},
            "problems": [str(problem) for problem in run.problems],
        },
        "accounting": run.accounting(steps).to_json(),
        "bubbles": run.bubbles(steps).to_json(),
        "bandwidth": run.bandwidth(steps).to_json(),
        "findings": [finding.to_json() for finding in findings(run, steps)],
    }


def _parts(run: Run, steps: Collection[int] | None) -> Iterator[RenderableType]:
    yield _header(run)
    for problem in run.problems:
        yield Text(f"! {problem}", style="yellow")
    if not run.steps:
        yield Text("No step is complete on every rank: call t.step() after each optimizer step.")
        return
    yield _accounting(run.accounting(steps))
    bubbles = run.bubbles(steps)
    if bubbles.steps.num_rows:
        yield _bubble_parts(bubbles)
        yield _bubble_ratios(bubbles)
    bandwidth = run.bandwidth(steps)
    if bandwidth.summary.num_rows:
        yield _bandwidth(bandwidth)
    yield _closing(run, steps)


def _header(run: Run) -> Text:
    meta = run.meta
    said = [f"{run.name}: {len(run.ranks)} of {meta.world_size} ranks, {len(run.steps)} steps"]
    if meta.mesh is not None:
        shape = zip(meta.mesh.names, meta.mesh.shape, strict=True)
        said.append("mesh " + " × ".join(f"{name} {length}" for name, length in shape))
    if meta.schedule is not None:
        plan = meta.schedule
        said.append(f"{plan.name}, {plan.microbatches} microbatches, {plan.stages} stages")
    bound = run.clock.bound_ns
    within = "" if not bound else f" to within {bound / 1e3:,.1f} µs"
    said.append(f"clocks: {run.clock.method}{within}")
    if meta.simulated:
        said.append("SIMULATED")
    return Text(" · ".join(said), style="bold")


def _accounting(accounting: Accounting) -> RenderableType:
    totals: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in accounting.table.to_pylist():
        totals[row["rank"]][row["category"]] += row["duration"]
    steps = len(set(accounting.windows["step"].to_pylist()))
    used = [c for c in CATEGORIES if any(totals[rank][c] for rank in totals)]
    windows: dict[int, int] = defaultdict(int)
    for row in accounting.windows.to_pylist():
        windows[row["rank"]] += row["duration"]
    rows = []
    for rank, spent in sorted(totals.items()):
        whole = windows[rank]
        shares = [f"{spent[c] / steps / 1e6:,.2f} {spent[c] / whole:5.1%}" for c in used]
        rows.append([str(rank), ms(whole / steps), *shares, f"{sum(spent.values()) / whole:.1%}"])
    title = f"Time per step and rank, ms and share of the step (mean of {steps} steps)"
    return table(title, ["rank", "step", *used, "sum"], rows)


def _bubble_parts(bubbles: Bubbles) -> RenderableType:
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in bubbles.ranks.to_pylist():
        found[row["group"], row["rank"], row["stages"]].append(row)
    parts = ("busy_ns", "bubble_ns", "warm_up_ns", "stall_ns", "cool_down_ns")
    rows = []
    for (group, rank, stages), measured in found.items():
        ratio = sum(m["bubble_ns"] for m in measured) / sum(m["window_ns"] for m in measured)
        spent = [ms(fmean(m[part] for m in measured)) for part in parts]
        rows.append([group, stages, str(rank), *spent, percent(ratio)])
    columns = ["pipeline", "stage", "rank", "busy", "bubble", "warm-up", "stall", "cool-down"]
    title = "Pipeline bubbles, ms per step (mean)"
    return table(title, [*columns, "of window"], rows, words=2)


def _bubble_ratios(bubbles: Bubbles) -> RenderableType:
    rows = []
    steps = bubbles.steps.to_pylist()
    theory = bubbles.theory
    for convention, suffix in (("of window", "fraction_of_window"), ("over ideal", "over_ideal")):
        measured = median(step[f"bubble_{suffix}"] for step in steps)
        bounds = [step[f"plan_bound_{suffix}"] for step in steps]
        known = [bound for bound in bounds if bound is not None]
        promised = None if theory is None else getattr(theory, suffix)
        bound = median(known) if known else None
        rows.append([f"bubble {convention}", percent(measured), percent(bound), percent(promised)])
    columns = ["ratio", "measured", "plan bound", "theory"]
    return table("Bubble ratios of the pipeline (median of the steps)", columns, rows)


def _bandwidth(bandwidth: Bandwidth) -> RenderableType:
    rows = [
        [
            row["group"],
            row["op"],
            f"{row['count']:,}" + (f" (+{row['incomplete']})" if row["incomplete"] else ""),
            size(row["bytes_median"]),
            gbps(row["algbw_seen"]),
            gbps(row["busbw_seen"]),
            gbps(row["algbw_skew_free"]),
            gbps(row["busbw_skew_free"]),
            ms(row["skew_ns_mean"]),
        ]
        for row in bandwidth.summary.to_pylist()
    ]
    columns = ["group", "op", "count", "median size", "algbw", "busbw"]
    title = "Bandwidth, GB/s (1e9 B/s): as seen, then free of arrival skew; mean skew in ms"
    return table(title, [*columns, "algbw s.f.", "busbw s.f.", "skew"], rows, words=2)


def _closing(run: Run, steps: Collection[int] | None) -> Text:
    found = findings(run, steps)
    if not found:
        return Text("Nothing stands out: no stage, wait or communication costs 5 % of the step.")
    return Text("Largest finding: " + found[0].text + ".", style="bold")
