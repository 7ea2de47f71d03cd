"""A run as HTML for notebooks: what was recorded, what is wrong with it, where its time goes."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.results import table_html
from dashboard.analysis.time_spent.accounting import account

MANY_EVENTS: Final = 1_000_000
"""Of so many the table would take a second and more."""

if TYPE_CHECKING:
    from dashboard.runs import Recording

_PROBLEMS_SHOWN: Final = 5


def run_html(run: Recording) -> str:
    """Facts, problems, and the mean step of each rank in ms by category. Of a run so large that one
    would wait for that, only the facts.
    """
    meta = run.meta
    facts = {
        "ranks": f"{len(run.ranks):,} of {meta.world_size:,}",
        "steps": f"{len(run.steps):,}"
        + (f", {run.steps[0]} to {run.steps[-1]}" if run.steps else ""),
        "events": f"{run.event_count:,}",
        "mesh": " × ".join(
            f"{n} {s}" for n, s in zip(meta.mesh.names, meta.mesh.shape, strict=True)
        )
        if meta.mesh
        else "",
        "schedule": f"{meta.schedule.name}, {meta.schedule.microbatches} microbatches"
        if meta.schedule
        else "",
        "recorded": meta.created,
        "clocks": str(run.clock),
    }
    items = [f"<li>{escape(name)}: {escape(said)}</li>" for name, said in facts.items() if said]
    shown = run.problems[:_PROBLEMS_SHOWN]
    items += [f"<li><b>{escape(str(problem))}</b></li>" for problem in shown]
    if len(run.problems) > len(shown):
        items.append(f"<li>and {len(run.problems) - len(shown):,} more in run.problems</li>")
    table = table_html("mean step, ms", mean_step(run)) if run.event_count < MANY_EVENTS else ""
    return f"<div><b>{escape(run.name)}</b><ul>{''.join(items)}</ul>{table}</div>"


def mean_step(run: Recording) -> pa.Table:
    """rank, step, then the categories that took any time: ms, means over the steps.

    Before (accounting)                     After
    rank 0, step 4, compute, 3,000,000 ns   rank 0  step 4.0  compute 3.0  idle 1.0
    rank 0, step 4, idle,    1,000,000 ns
    """
    accounting = run.answer(account)
    table = accounting.table
    steps = max(len(run.steps), 1)
    grouped = table.group_by(["rank", "category"], use_threads=False)
    total = grouped.aggregate([("duration", "sum")])
    ranks = pc.unique(table["rank"]).to_pylist()
    columns: dict[str, list[float]] = {}
    for category in dict.fromkeys(total["category"].to_pylist()):
        mine = total.filter(pc.equal(total["category"], category))
        found = dict(zip(mine["rank"].to_pylist(), mine["duration_sum"].to_pylist(), strict=True))
        if any(found.values()):
            columns[category] = [found.get(rank, 0) / steps / 1e6 for rank in ranks]
    whole = [sum(values) for values in zip(*columns.values(), strict=True)]
    return pa.table({"rank": ranks, "step": whole or [0.0] * len(ranks), **columns})
