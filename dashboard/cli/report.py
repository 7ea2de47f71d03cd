"""`rankscope report RUN`: time accounting, bubbles and bandwidth, in the terminal or as JSON."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import click
from rich.table import Table
from rich.text import Text

from dashboard.analysis.communication.bandwidth import bandwidth_summary, measure_bandwidth
from dashboard.analysis.coverage import incidents
from dashboard.analysis.pipeline.bubbles import measure_bubbles
from dashboard.analysis.pipeline.bubbles_by_rank import (
    bubbles_by_rank,
)
from dashboard.analysis.replay.replay import counted_steps
from dashboard.analysis.replay.replayed_steps import replayed_steps
from dashboard.analysis.time_spent.accounting import account
from dashboard.analysis.time_spent.spent_by_rank import spent_by_rank
from dashboard.analysis.whole_run.findings import Finding, findings, sentence
from dashboard.analysis.whole_run.flops import flops_utilization
from dashboard.analysis.whole_run.summary import communication_by_dimension, step_times
from dashboard.analysis.whole_run.warm_up import WarmUp, warm_up
from dashboard.cli.elsewhere import Where, where_options
from dashboard.cli.opening import open_run
from dashboard.cli.options import (
    all_option,
    chosen_steps,
    json_option,
    run_argument,
    said_of_warm_up,
    steps_option,
)
from dashboard.cli.report_tables import (
    tables_of_bandwidth,
    tables_of_bubbles,
    tables_of_time,
)
from dashboard.cli.tables import console, counted, plain_console, show
from dashboard.run import Run
from dashboard.runs.attempts import other_attempts

_HTML_WIDTH: Final = 140
_CALL_STEP: Final = "call t.step() after each optimizer step"
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
@all_option
@where_options
def report(
    path: Path | str,
    steps: slice | None,
    as_json: bool,
    html: Path | None,
    whole: bool,
    **where: Any,
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

        write_html(run, chosen, _text(run, chosen, whole=whole), html)
        click.echo(f"Wrote {html}")
        return
    out = console()
    for part in _parts(run, chosen, out.width, whole=whole):
        show(out, part)


def _text(run: Run, steps: Collection[int] | None, *, whole: bool) -> str:
    """The report without colours, as wide as its tables."""
    written = io.StringIO()
    out = plain_console(file=written, width=_HTML_WIDTH)
    for part in _parts(run, steps, _HTML_WIDTH, whole=whole):
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


def _parts(
    run: Run, steps: Collection[int] | None, width: int, *, whole: bool
) -> Iterator[Table | Text]:
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
        lacks_events = any(problem.is_of_events for problem in run.problems)
        mend = "what could not be read is named above" if lacks_events else _CALL_STEP
        yield Text(f"No step is complete on every rank: {mend}.")
        return
    first = _warm_up(run, steps)
    if first is not None:
        yield Text(said_of_warm_up(first), style="yellow")
    yield from tables_of_time(run, run.answer(spent_by_rank, steps), width, whole=whole)
    yield from _of_bubbles(run, steps, whole=whole)
    bandwidth = run.answer(bandwidth_summary, steps)
    if bandwidth.num_rows:
        yield from tables_of_bandwidth(bandwidth, whole=whole)
    flops = run.answer(flops_utilization, steps)
    if flops.per_rank is not None:
        yield Text(f"Model FLOPs utilization: {flops}")
    yield from _closing(run, steps)


def _of_bubbles(run: Run, steps: Collection[int] | None, *, whole: bool) -> Iterator[Table | Text]:
    """In a function of its own: the ratios of all steps are not kept for what comes after."""
    bubbles = run.answer(bubbles_by_rank, steps)
    if bubbles.steps.num_rows:
        yield from tables_of_bubbles(bubbles, whole=whole)
        if bubbles.theory is not None and bubbles.theory.over_ideal is not None:
            sources = filter(None, (bubbles.theory.source, bubbles.theory.note))
            yield Text(f"Theory: {'; '.join(sources)}", style="dim")


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


def _closing(run: Run, steps: Collection[int] | None) -> Iterator[Text]:
    found = run.answer(findings, steps)
    if not found:
        yield Text("Nothing stands out: mending nothing would save 1 % of the step.")
        return
    replayed = replayed_steps(run, steps)
    which = "the recorded steps"
    if not replayed.are_all:
        looked_at = counted_steps(run.answer(spent_by_rank, steps).windows, replayed)
        which = f"{looked_at} of {replayed.chosen:,} steps"
    yield Text(f"What to mend first (by replay of {which}):", style="bold")
    for number, finding in enumerate(found, 1):
        yield Text(f"{number}. {sentence(finding.text)}", style="bold" if number == 1 else "")
        yield Text(f"   {_how_sure(finding)}", style="dim")


def _how_sure(finding: Finding) -> str:
    said = [f"confidence {finding.confidence}"]
    if finding.low_ms is not None and finding.high_ms is not None:
        said.append(f"saves {finding.low_ms:.1f} to {finding.high_ms:.1f} ms (95 %)")
    return "; ".join((*said, *finding.evidence))
