"""Overview: what the run is, what it loses time to, and where each rank's time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from dash import ClientsideFunction, Dash, Input, html

from dashboard.analysis.comparing.change_points import ChangePoint, change_points
from dashboard.analysis.health import Health, health
from dashboard.analysis.memory.memory import is_sampled
from dashboard.analysis.memory.memory_summary import memory_figures
from dashboard.analysis.replay.replay import counted_steps
from dashboard.analysis.replay.replayed_steps import replayed_steps
from dashboard.analysis.whole_run.findings import findings, sentence
from dashboard.analysis.whole_run.flops import flops_utilization
from dashboard.analysis.whole_run.summary import KeyFigures, key_figures
from dashboard.analysis.whole_run.summary import step_times as times_of_steps
from dashboard.analysis.whole_run.warm_up import WarmUp, warm_up
from dashboard.figures.overview import accounting_bars, step_times
from dashboard.figures.theme import CATEGORY_LABELS
from dashboard.figures.units import byte_text, percent_text, time_text
from dashboard.pages import communication, memory, pipeline, timeline
from dashboard.pages.markup import (
    address,
    figure_card,
    no_steps,
    notice,
    table_card,
    tile,
    view_link,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from dashboard.analysis.replay.critical_path import CriticalPath
    from dashboard.analysis.whole_run.findings import Finding
    from dashboard.analysis.whole_run.flops import FlopsUtilization
    from dashboard.pages.state import ViewState
    from dashboard.run import Run
    from tracer.run_files import Source

_MOST_OF_PATH: Final = 8

TITLE: Final = "Overview"
PATH: Final = "/overview"


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    if not steps:
        return html.Div([_facts(run), no_steps(run, state, PATH)], className="page-stack")
    accounting = run.accounting(steps)
    times = times_of_steps(accounting)
    first = warm_up(run, times["step"].to_pylist(), times["median_ns"].to_pylist())
    changes = run.answer(change_points, steps)
    replayed = replayed_steps(run, steps)
    looked_at = counted_steps(accounting.windows, replayed)
    return html.Div(
        [
            _facts(run),
            _findings(findings(run, steps), replayed.notes(looked_at), state),
            *([_warm_up(first, steps[-1], state)] if first is not None else []),
            html.Div(
                [
                    *_tiles(key_figures(run, steps), flops_utilization(run, steps), state),
                    *(_memory_tile(run, state, steps) if is_sampled(run) else []),
                    _health_tile(health(run)),
                ],
                className="tiles",
            ),
            figure_card(
                "overview-accounting",
                "Where each rank's time goes",
                "Mean step of each rank. Every nanosecond is in exactly one category, so a bar is "
                "as long as the step.",
                accounting_bars(accounting, state.theme),
            ),
            figure_card(
                "overview-steps",
                "Step time over the run",
                "Median over the ranks; the band reaches from the fastest to the slowest rank. "
                "A click opens the step in the timeline.",
                step_times(accounting, state.theme, changes),
            ),
            *([_changes(changes, state)] if changes else []),
            _critical_path(run.critical_path(steps), times, state),
        ],
        className="page-stack",
    )


def register(app: Dash, runs: Sequence[Run]) -> None:
    """A click on a step opens it in the timeline (assets/pages.js)."""
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("pages", "openStep"), Input("overview-steps", "clickData")
    )


def _warm_up(first: WarmUp, last: int, state: ViewState) -> html.Div:
    there = replace(state, steps=(first.next_step, last))
    return html.Div(
        [f"{first}. ", view_link("Leave it out", PATH, there)],
        id="overview-warm-up",
        className="notice",
    )


def _changes(changes: Sequence[ChangePoint], state: ViewState) -> html.Section:
    """The steps from which on the step time is another, and what changed there."""
    rows = [
        [
            view_link(
                f"from step {change.step} on",
                timeline.PATH,
                replace(state, window=(change.start, change.start + round(change.after_ns))),
            ),
            CATEGORY_LABELS[change.category],
            f"{time_text(change.category_ns)} per step",
            time_text(change.before_ns),
            time_text(change.after_ns),
            f"{100 * change.relative:+.1f} %",
        ]
        for change in changes
    ]
    columns = ("where", "mostly", "of it", "before", "after", "change")
    return table_card(
        "overview-changes",
        "The step time changed",
        "Steps from which on it has another level, by 2 % or more and beyond chance (1 %).",
        columns,
        rows,
        words=2,
        saved=[change.to_json() for change in changes],
    )


def _facts(run: Run) -> html.Section:
    meta, plan = run.meta, run.meta.schedule
    facts = [("ranks", f"{len(run.ranks)} of {meta.world_size}")]
    if meta.mesh is not None:
        lengths = zip(meta.mesh.names, meta.mesh.shape, strict=True)
        facts.append(("mesh", " × ".join(f"{name} {length}" for name, length in lengths)))
    if plan is not None:
        facts.append(("schedule", plan.name.removeprefix("Schedule")))
        facts.append(("stages", str(plan.stages)))
        facts.append(("microbatches", str(plan.microbatches)))
    facts += [
        ("steps", f"{len(run.steps):,}"),
        ("on", _places(run)),
        ("clocks", str(run.clock)),
        ("dropped events", f"{sum(facts.dropped for facts in run.facts.values()):,}"),
    ]
    if meta.created:
        facts.append(("recorded", meta.created[:16].replace("T", " ")))
    items = [html.Span([f"{name} ", html.Strong(value)]) for name, value in facts]
    badge = [html.Span("simulated", className="badge")] if meta.simulated else []
    if meta.source is not None:
        badge.append(html.Span(f"imported from {meta.source.format}", className="badge"))
    head = html.H1([run.name, *badge])
    return html.Section(
        [head, html.P(items, className="facts"), *_lacking(meta.source)], className="card"
    )


def _lacking(source: Source | None) -> list[html.Details]:
    """What the tool that recorded an imported run does not tell, so that nobody looks for it."""
    if source is None or not source.lacks:
        return []
    head = html.Summary(f"What the {source.format} files do not hold")
    return [html.Details([head, html.Ul([html.Li(said) for said in source.lacks])], open=True)]


def _places(run: Run) -> str:
    """`cpu` on one host, `cuda on 4 hosts`."""
    devices = ", ".join(sorted({facts.device for facts in run.facts.values()})) or "unknown device"
    hosts = {facts.host for facts in run.facts.values() if facts.host}
    return f"{devices}, {len(hosts)} hosts" if len(hosts) > 1 else devices


def _findings(found: Sequence[Finding], notes: Sequence[str], state: ViewState) -> html.Section:
    """The largest finding in large type, the next ones below it, then what makes them less sure."""
    if not found:
        said = "Nothing stands out: mending nothing would save 1 % of the step."
        return html.Section(html.Div(said, className="lead"), className="card")
    first, *others = found
    return html.Section(
        [
            html.H3("What to mend first"),
            html.Div(_finding(first, state), className="lead"),
            html.Ul([html.Li(_finding(other, state)) for other in others], className="findings"),
            *(html.Small(note, className="muted") for note in notes),
        ],
        className="card finding",
    )


def _finding(finding: Finding, state: ViewState) -> list[Any]:
    """What it costs, in words, and on hovering how sure that is; it leads to its page."""
    interval = ""
    if finding.low_ms is not None and finding.high_ms is not None:
        interval = f"saves {finding.low_ms:.1f} to {finding.high_ms:.1f} ms (95 %); "
    said = f"confidence {finding.confidence}: {interval}{'; '.join(finding.evidence)}"
    return [
        html.Span(f"{finding.ms_per_step:,.1f} ms / step", className="finding-cost"),
        view_link(sentence(finding.text), finding.page, state, title=said),
        html.Span(f" {finding.confidence} confidence", className="muted"),
    ]


def _critical_path(found: CriticalPath, times: pa.Table, state: ViewState) -> html.Section:
    """What the path was spent on, and the way to it in the timeline, at the longest of all chosen
    steps, of which the path of some may have been followed.
    """
    rows = [
        [
            CATEGORY_LABELS.get(row["category"], row["category"]),
            row["name"],
            "–" if row["stage"] is None else str(row["stage"]),
            str(row["rank"]),
            time_text(row["ns_per_step"]),
            percent_text(row["share"]),
        ]
        for row in found.summary.to_pylist()[:_MOST_OF_PATH]
    ]
    longest = max(times.to_pylist(), key=lambda row: row["median_ns"])
    there = replace(
        state,
        window=(longest["start"], longest["start"] + longest["high_ns"]),
        extra={**state.extra, "path": "1"},
    )
    columns = ("category", "what", "stage", "rank", "per step", "of the path")
    return table_card(
        "overview-critical-path",
        "Critical path",
        "What the step time was spent on, across ranks: only work on this path is worth making "
        "faster. The largest rows; the path is as long as the step.",
        columns,
        rows,
        words=2,
        saved=found.summary.to_pylist(),
        below=[*map(notice, found.notes)],
        tools=[view_link("Longest step in the timeline", timeline.PATH, there)],
    )


def _tiles(figures: KeyFigures, flops: FlopsUtilization, state: ViewState) -> list[Any]:
    to_timeline = address(timeline.PATH, state)
    to_communication = address(communication.PATH, state)
    span = f"{time_text(figures.step_low_ns)} to {time_text(figures.step_high_ns)}"
    exposed = "none exposed"
    if figures.exposed_dim is not None:
        largest = CATEGORY_LABELS[figures.exposed_dim].removesuffix(" communication")
        exposed = f"{time_text(figures.exposed_ns)} per step, most of it {largest}"
    tiles = [
        tile("Step time, median", time_text(figures.step_ns), f"steps take {span}", to_timeline),
        tile(
            "Compute",
            percent_text(figures.compute_share),
            f"of all time; {percent_text(figures.idle_share)} idle",
        ),
        tile(
            "Exposed communication",
            percent_text(figures.exposed_share),
            exposed,
            to_communication,
        ),
    ]
    if flops.per_rank is not None:
        tiles.append(tile("Model FLOPs utilization", percent_text(flops.mfu), flops.reached))
    if figures.bubble is not None:
        said = f"plan bound {percent_text(figures.plan_bound)}"
        if figures.theory is not None:
            said += f", theory {percent_text(figures.theory)}"
        to_pipeline = address(pipeline.PATH, state)
        tiles.append(tile("Pipeline bubble", percent_text(figures.bubble), said, to_pipeline))
    if figures.slowest_rank is not None:
        said = f"works {time_text(figures.slowest_work_ns)} per step"
        if figures.slowest_excess is not None:
            said += f", {100 * figures.slowest_excess:+.0f} % against the others' median"
        tiles.append(tile("Most work", f"rank {figures.slowest_rank}", said, to_timeline))
    return tiles


def _memory_tile(run: Run, state: ViewState, steps: Sequence[int]) -> list[Any]:
    figures = memory_figures(run, run.memory(steps))
    if figures.peak_bytes is None:
        return []
    said = f"rank {figures.peak_rank}"
    if figures.held is not None:
        said += f"; at most {figures.held} microbatches held"
    link = address(memory.PATH, state)
    return [tile("Peak memory", byte_text(figures.peak_bytes), said, link)]


def _health_tile(found: Health) -> Any:
    """What is to be known before the numbers are believed; the clocks where all is well."""
    if found.is_good:
        bound = found.clock_bound_ns
        clocks = f"clocks within {time_text(bound)}" if bound else "one clock"
        return tile("Recording", "complete", f"no rank missing, nothing dropped, {clocks}")
    return tile("Recording", "incomplete", "; ".join(found.said()))
