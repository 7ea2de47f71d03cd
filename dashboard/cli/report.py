"""`rankscope report RUN`: time accounting, bubbles and bandwidth, in the terminal or as JSON."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import click
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from dashboard.analysis.communication.bandwidth import bandwidth_summary, measure_bandwidth
from dashboard.analysis.coverage import incidents
from dashboard.analysis.pipeline.bubble_summary import ratios
from dashboard.analysis.pipeline.bubbles import measure_bubbles
from dashboard.analysis.pipeline.bubbles_by_rank import (
    BubblesByRank,
    bubbles_by_rank,
    mean_by_rank,
)
from dashboard.analysis.replay.replayed_steps import replayed_steps
from dashboard.analysis.time_spent.accounting import account
from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.analysis.time_spent.spent_by_rank import SpentByRank, spent_by_rank
from dashboard.analysis.whole_run.findings import Finding, findings, sentence
from dashboard.analysis.whole_run.flops import flops_utilization
from dashboard.analysis.whole_run.summary import communication_by_dimension, step_times
from dashboard.analysis.whole_run.warm_up import WarmUp, warm_up
from dashboard.cli.elsewhere import Where, where_options
from dashboard.cli.opening import open_run
from dashboard.cli.options import (
    chosen_steps,
    json_option,
    run_argument,
    said_of_warm_up,
    steps_option,
)
from dashboard.cli.tables import (
    console,
    counted,
    gbps,
    ms,
    percent,
    plain_console,
    share,
    show,
    size,
    table,
    width_of,
)
from dashboard.run import Run
from dashboard.runs.attempts import other_attempts

_HTML_WIDTH: Final = 140
_WORDS_AT_ONCE: Final = 1 << 14
"""Of JSON, some 100 kB."""
_TOGETHER: Final = (account, measure_bubbles, measure_bandwidth, flops_utilization, findings)
"""What --json writes, and --html draws."""
_PRINTED: Final = (
    spent_by_rank,
    bubbles_by_rank,
    bandwidth_summary,
    flops_utilization,
    findings,
)


@click.command()
@run_argument
@steps_option
@json_option
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a page with the main figures, which needs no server and no network.",
)
@where_options
def report(
    path: Path | str, steps: slice | None, as_json: bool, html: Path | None, **where: Any
) -> None:
    """Say where the step time of RUN went, on which rank.

    \b
    Examples:
      rankscope report runs/a                 all complete steps
      rankscope report runs/a --step 10:20    steps 10 to 19
      rankscope report runs/a --json | jq .bubbles.steps
      rankscope report runs/a --html a.html   a page to send to somebody
      rankscope report runs/a --workers 8     by eight processes
      rankscope report s3://bucket/a --scheduler tcp://host:8786
    """
    run = open_run(path)
    Where(**where).work(run, _PRINTED if html is None and not as_json else _TOGETHER)
    chosen = chosen_steps(run, steps)
    if as_json:
        _write_json(report_json(run, chosen), sys.stdout)
        return
    if html is not None:
        from dashboard.cli.report_html import write_html  # plotly takes a tenth of a second

        write_html(run, chosen, _text(run, chosen), html)
        click.echo(f"Wrote {html}")
        return
    out = console()
    for part in _parts(run, chosen, out.width):
        show(out, part)


def _text(run: Run, steps: Collection[int] | None) -> str:
    """The report without colours, as wide as its tables."""
    written = io.StringIO()
    out = plain_console(file=written, width=_HTML_WIDTH)
    for part in _parts(run, steps, _HTML_WIDTH):
        show(out, part)
    return written.getvalue()


def _write_json(said: dict[str, Any], out: IO[str]) -> None:
    """Part by part: of a long run, all of it as text takes as much memory as the report."""
    words = json.JSONEncoder(indent=1).iterencode(said)
    while part := "".join(islice(words, _WORDS_AT_ONCE)):
        out.write(part)
    out.write("\n")
    out.flush()  # a reader that has gone away is noticed here, and not when Python ends


def report_json(run: Run, steps: Collection[int] | None) -> dict[str, Any]:
    """Everything that the report is made of, in plain values (times in ns, bandwidth in GB/s)."""
    first = _warm_up(run, steps)
    return {
        "run": {
            "name": run.name,
            "run_id": run.meta.run_id,
            "world_size": run.meta.world_size,
            "ranks": list(run.ranks),
            "steps": list(run.steps),
            "warm_up": None if first is None else first.to_json(),
            "clock": {
                "method": run.clock.method,
                "bound_ns": run.clock.bound_ns,
                "checked": run.clock.checked,
                "violations": run.clock.violations,
            },
            "source": asdict(run.meta.source) if run.meta.source else None,
            "problems": [str(problem) for problem in run.problems],
            "incidents": [asdict(incident) for incident in incidents(run)],
            "other_attempts": [str(path) for path in other_attempts(run.path)],
        },
        "accounting": run.accounting(steps).to_json(),
        "communication": communication_by_dimension(run.accounting(steps)).to_pylist(),
        "bubbles": run.bubbles(steps).to_json(),
        "bandwidth": run.bandwidth(steps).to_json(),
        "flops": run.answer(flops_utilization, steps).to_json(),
        "findings": [finding.to_json() for finding in run.answer(findings, steps)],
    }


def _parts(run: Run, steps: Collection[int] | None, width: int) -> Iterator[Table | Text]:
    yield _header(run)
    for problem in run.problems:
        yield Text(f"! {problem}", style="yellow")
    source = run.meta.source
    for lacking in source.lacks if source is not None else ():
        yield Text(f"imported: {lacking}", style="yellow")
    attempts = other_attempts(run.path)
    if attempts:
        others = ", ".join(str(path) for path in attempts)
        yield Text(f"The training was restarted; other attempts: {others}", style="yellow")
    for incident in incidents(run):
        said = f"rank {incident.rank}, {incident.time / 1e9:,.3f} s: {incident.reason}"
        yield Text(f"written for {said}", style="yellow")
    if not run.steps:
        yield Text("No step is complete on every rank: call t.step() after each optimizer step.")
        return
    first = _warm_up(run, steps)
    if first is not None:
        yield Text(said_of_warm_up(first), style="yellow")
    spent = run.answer(spent_by_rank, steps)
    yield from _accounting(spent, width)
    by_dimension = communication_by_dimension(spent)
    if by_dimension.num_rows:
        yield _by_dimension(by_dimension)
    bubbles = run.answer(bubbles_by_rank, steps)
    if bubbles.steps.num_rows:
        yield _bubble_parts(bubbles)
        yield _bubble_ratios(bubbles)
        if bubbles.theory is not None and bubbles.theory.over_ideal is not None:
            sources = filter(None, (bubbles.theory.source, bubbles.theory.note))
            yield Text(f"Theory: {'; '.join(sources)}", style="dim")
    bandwidth = run.answer(bandwidth_summary, steps)
    if bandwidth.num_rows:
        yield _bandwidth(bandwidth)
    flops = run.answer(flops_utilization, steps)
    if flops.per_rank is not None:
        yield Text(f"Model FLOPs utilization: {flops}")
    yield from _closing(run, steps)


def _warm_up(run: Run, steps: Collection[int] | None) -> WarmUp | None:
    times = step_times(run.answer(spent_by_rank, steps))
    return warm_up(run, times["step"].to_pylist(), times["median_ns"].to_pylist())


def _header(run: Run) -> Text:
    meta = run.meta
    steps = counted(len(run.steps), "step")
    said = [f"{run.name}: {len(run.ranks)} of {meta.world_size} ranks, {steps}"]
    if meta.mesh is not None:
        shape = zip(meta.mesh.names, meta.mesh.shape, strict=True)
        said.append("mesh " + " × ".join(f"{name} {length}" for name, length in shape))
    if meta.schedule is not None:
        plan = meta.schedule
        said.append(f"{plan.name}, {plan.microbatches} microbatches, {plan.stages} stages")
    said.append(f"clocks: {run.clock}")
    steps_held = max((facts.keep_last for facts in run.facts.values()), default=0)
    if steps_held:
        said.append(f"a black box of {steps_held} steps")
    if meta.source is not None:
        said.append(f"imported from {meta.source.format}")
    if meta.simulated:
        said.append("SIMULATED")
    return Text(" · ".join(said), style="bold")


@dataclass(slots=True)
class _Spent:
    """What one rank spent over all chosen steps, in ns."""

    window: int = 0
    by_category: Counter[str] = field(default_factory=Counter)


def _accounting(accounting: SpentByRank, width: int) -> Iterator[Table]:
    """Times and shares in one table, or in two where one would be wider than the line."""
    spent = _spent(accounting)
    steps = pc.count_distinct(accounting.windows["step"]).as_py()
    used = [c for c in CATEGORIES if any(found.by_category[c] for found in spent.values())]
    times, shares, both = [], [], []
    for rank, found in spent.items():
        in_ms = [ms(found.by_category[c] / steps) for c in used]
        parts = [share(found.by_category[c], found.window) for c in used]
        cells = [f"{time} {part:>5}" for time, part in zip(in_ms, parts, strict=True)]
        window, total = ms(found.window / steps), share(found.by_category.total(), found.window)
        times.append([str(rank), window, *in_ms])
        shares.append([str(rank), *parts, total])
        both.append([str(rank), window, *cells, total])
    of = f"(mean of {counted(steps, 'step')})"
    title = f"Time per step and rank, ms and share of the step {of}"
    one = table(title, ["rank", "step", *used, "sum"], both)
    if width_of(one) <= width:
        yield one
        return
    narrow = [category.replace(":", ":\n") for category in used]
    yield table(f"Time per step and rank, ms {of}", ["rank", "step", *narrow], times)
    yield table(f"Share of the step {of}", ["rank", *narrow, "sum"], shares)


def _by_dimension(found: pa.Table) -> Table:
    rows = [
        [
            row["dim"],
            *(ms(row[part]) for part in ("total_ns", "exposed_ns", "overlapped_ns")),
            percent(row["overlap"]),
        ]
        for row in found.to_pylist()
    ]
    columns = ["dimension", "total", "exposed", "overlapped", "overlap"]
    return table("Communication by mesh dimension, ms per step and rank (mean)", columns, rows)


def _spent(accounting: SpentByRank) -> dict[int, _Spent]:
    """By rank, in order."""
    found: dict[int, _Spent] = {}
    windows = accounting.windows.group_by("rank", use_threads=False)
    for row in windows.aggregate([("duration", "sum")]).to_pylist():
        found[row["rank"]] = _Spent(window=row["duration_sum"])
    for row in accounting.table.to_pylist():
        found[row["rank"]].by_category[row["category"]] += row["duration"]
    return found


def _bubble_parts(bubbles: BubblesByRank) -> Table:
    parts = ("busy_ns", "bubble_ns", "warm_up_ns", "stall_ns", "cool_down_ns")
    order = [("group", "ascending"), ("rank", "ascending")]
    culprits = _culprits(bubbles)
    rows = [
        [
            row["group"],
            row["stages"],
            str(row["rank"]),
            *(ms(row[part]) for part in parts),
            culprits.get(row["rank"], "–"),
            percent(row["fraction"]),
        ]
        for row in mean_by_rank(bubbles).sort_by(order).to_pylist()
    ]
    columns = ["pipeline", "stage", "rank", "busy", "bubble", "warm-up", "stall", "cool-down"]
    title = "Pipeline bubbles, ms per step (mean)"
    return table(title, [*columns, "stalls for", "of window"], rows, words=2)


def _culprits(bubbles: BubblesByRank) -> dict[int, str]:
    """By rank, the peer that most of its stalls are for, and how much of them."""
    stalls: dict[int, Counter[int]] = {}
    for row in bubbles.stalls.to_pylist():
        stalls.setdefault(row["rank"], Counter())[row["culprit_rank"]] += row["stall_ns"]
    found = {}
    for rank, by_culprit in stalls.items():
        culprit, most = by_culprit.most_common(1)[0]
        who = "itself" if culprit == rank else f"rank {culprit}"
        if most:
            found[rank] = f"{who} {share(most, by_culprit.total())}"
    return found


def _bubble_ratios(bubbles: BubblesByRank) -> Table:
    measured, bound = ratios(bubbles)
    found = (measured, bound, bubbles.theory)
    rows = [
        [f"bubble {said}", *(percent(getattr(ratio, name, None)) for ratio in found)]
        for said, name in (("of window", "fraction_of_window"), ("over ideal", "over_ideal"))
    ]
    columns = ["ratio", "measured", "plan bound", "theory"]
    return table("Bubble ratios of the pipeline (median of the steps)", columns, rows)


def _bandwidth(summary: pa.Table) -> Table:
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
        for row in summary.to_pylist()
    ]
    columns = ["group", "op", "count", "median\nsize", "algbw", "busbw"]
    title = "Bandwidth, GB/s (1e9 B/s): as seen, then free of arrival skew; mean skew in ms"
    return table(title, [*columns, "algbw s.f.", "busbw s.f.", "skew"], rows, words=2)


def _closing(run: Run, steps: Collection[int] | None) -> Iterator[Text]:
    found = run.answer(findings, steps)
    if not found:
        yield Text("Nothing stands out: mending nothing would save 1 % of the step.")
        return
    replayed = replayed_steps(run, steps)
    which = "the recorded steps"
    if not replayed.are_all:
        which = f"{len(replayed.steps)} of {replayed.chosen:,} steps"
    yield Text(f"What to mend first (by replay of {which}):", style="bold")
    for number, finding in enumerate(found, 1):
        yield Text(f"{number}. {sentence(finding.text)}", style="bold" if number == 1 else "")
        yield Text(f"   {_how_sure(finding)}", style="dim")


def _how_sure(finding: Finding) -> str:
    said = [f"confidence {finding.confidence}"]
    if finding.low_ms is not None and finding.high_ms is not None:
        said.append(f"saves {finding.low_ms:.1f} to {finding.high_ms:.1f} ms (95 %)")
    return "; ".join((*said, *finding.evidence))
