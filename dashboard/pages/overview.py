"""Overview: what the run is, what it loses time to, and where each rank's time went."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Final

from dash import html

from dashboard.analysis.findings import findings
from dashboard.figures.overview import accounting_bars, step_times
from dashboard.pages.markup import card, graph, tile

if TYPE_CHECKING:
    from dashboard.analysis.findings import Finding
    from dashboard.pages.state import ViewState
    from dashboard.runs import Run

TITLE: Final = "Overview"
PATH: Final = "/overview"


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    accounting = run.accounting(steps)
    found = findings(run, steps)
    return html.Div(
        [
            _facts(run),
            html.Div(_tiles(run, steps), className="tiles"),
            card(
                "Findings",
                "What costs at least 5 % of the step, the largest first; the schedule's own bubble last.",
                *_said(found),
            ),
            card(
                "Time per rank",
                "Every nanosecond of the step in exactly one category; the bars are whole steps.",
                graph("overview-accounting", accounting_bars(accounting, state.theme)),
            ),
            card(
                "Step time",
                "Mean over the ranks; the band spans the fastest to the slowest rank.",
                graph("overview-steps", step_times(accounting, state.theme)),
            ),
        ],
        className="page-stack",
    )


def _facts(run: Run) -> html.Section:
    meta = run.meta
    bound = run.clock.bound_ns
    clock = run.clock.method + (f", ± {bound / 1e3:,.1f} µs" if bound else "")
    facts = [("ranks", f"{len(run.ranks)} of {meta.world_size}")]
    if meta.mesh is not None:
        lengths = zip(meta.mesh.names, meta.mesh.shape, strict=True)
        facts.append(("mesh", " × ".join(f"{name} {length}" for name, length in lengths)))
    if meta.schedule is not None:
        plan = meta.schedule
        facts.append(("schedule", f"{plan.name}, {plan.stages} stages"))
        facts.append(("microbatches", str(plan.microbatches)))
    dropped = sum(facts.dropped for facts in run.facts.values())
    devices = ", ".join(sorted({facts.device for facts in run.facts.values()}))
    facts += [
        ("device", devices),
        ("clocks", clock),
        ("dropped events", f"{dropped:,}"),
        ("recorded", meta.created or "unknown"),
    ]
    if meta.simulated:
        facts.append(("source", "SIMULATED"))
    items = [html.Span([f"{name} ", html.Strong(value)]) for name, value in facts]
    return html.Section([html.H1(run.name), html.P(items, className="facts")], className="card")


def _tiles(run: Run, steps: Sequence[int]) -> list[html.Div]:
    accounting = run.accounting(steps)
    durations = accounting.windows["duration"].to_pylist()
    if not durations:
        return [tile("Step time", "–", "no step is complete on every rank: call t.step()")]
    tiles = [
        tile("Step time", f"{median(durations) / 1e6:,.1f} ms", f"median of {len(steps)} steps")
    ]
    tiles.append(tile("Compute", f"{accounting.share('compute'):.1%}", "of the step, all ranks"))
    bubbles = run.bubbles(steps).steps.to_pylist()
    if bubbles:
        measured = median(row["bubble_fraction_of_window"] for row in bubbles)
        bounds = [row["plan_bound_fraction_of_window"] for row in bubbles]
        known = [bound for bound in bounds if bound is not None]
        theory = run.bubbles(steps).theory
        said = [f"plan bound {median(known):.1%}"] if known else []
        if theory is not None and theory.fraction_of_window is not None:
            said.append(f"theory {theory.fraction_of_window:.1%}")
        tiles.append(tile("Pipeline bubble", f"{measured:.1%}", ", ".join(said)))
    for dim in ("tp", "dp", "other"):
        if dim in accounting.overlap["dim"].to_pylist():
            share = f"{accounting.share(f'comm:{dim}'):.1%}"
            tiles.append(tile(f"Exposed {dim} communication", share, "of the step, all ranks"))
    return tiles


def _said(found: Sequence[Finding]) -> list[html.Div]:
    if not found:
        return [html.Div("Nothing stands out.", className="muted")]
    return [
        html.Div(
            [
                html.Span(f"{finding.ms_per_step:,.1f} ms per step", className="finding-ms"),
                html.Span(finding.text),
            ],
            className="finding",
        )
        for finding in found[:5]
    ]
