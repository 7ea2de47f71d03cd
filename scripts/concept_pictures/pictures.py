"""The pictures: each asks an analysis about a run on paper, and draws its answer.

No length and no number in a picture is written down here, except where the run itself is made: what
an analysis says otherwise, is drawn otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from dashboard import Run, open_run
from dashboard.analysis.communication.latency_bandwidth import fit_lines
from dashboard.analysis.pipeline.actions import Action, pipeline_actions
from dashboard.analysis.pipeline.bubble_spans import bubble_spans
from dashboard.analysis.pipeline.schedule import step_schedule
from dashboard.analysis.replay.predicted_step import replayed_step
from dashboard.analysis.replay.scenarios import stage_takes
from dashboard.analysis.replay.whatif import what_if
from dashboard.analysis.stragglers.stragglers import find_stragglers
from dashboard.analysis.time_spent.accounting import course
from scripts.concept_pictures.canvas import LANE, Canvas
from tests.support.pipeline_toy import STEP_END, write_pipeline
from tests.support.straggler_toy import More, Toy, in_steps
from tests.support.toy import Event, RankFacts, write_run
from tests.support.transfers import transfers

_US: Final = 1000
_ACTIONS: Final = {"forward": "forward", "backward": "backward"}


def accounting(folder: Path) -> str:
    """Each rank's window, cut by category."""
    run = open_run(write_pipeline(folder / "run"))
    made = Canvas(title="Time accounting: every instant of a window has one category", end=STEP_END)
    shown: dict[str, str] = {}
    for rank in run.ranks:
        spent = {
            row["category"]: row["duration"] // _US
            for row in run.accounting().table.to_pylist()
            if row["rank"] == rank and row["duration"]
        }
        sums = " + ".join(str(duration) for duration in spent.values())
        made.lane(f"rank {rank}", f"{sums} = {sum(spent.values())}")
        made.box(0, STEP_END, "idle")
        for row in course(run, 0, [rank]).to_pylist():
            start, length = row["start"] / _US, row["duration"] // _US
            made.box(start, start + length, row["category"], str(length))
        made.next()
        shown |= {category: category for category in spent}
    made.axis(20, "µs")
    made.legend(shown)
    return made.svg()


def bubbles(folder: Path) -> str:
    """Actions, and what lies between them."""
    run = open_run(write_pipeline(folder / "run"))
    rows = {row["rank"]: row for row in run.bubbles().ranks.to_pylist()}
    (ratio,) = run.bubbles().steps.to_pylist()
    window = ratio["window_ns"] / _US
    made = Canvas(title="Pipeline bubbles: the window is the first action to the last", end=window)
    culprits: dict[int, set[int]] = {}
    for row in run.bubbles().stalls.to_pylist():
        culprits.setdefault(row["rank"], set()).add(row["culprit_rank"])
    for rank in run.ranks:
        found = [rows[rank][f"{part}_ns"] // _US for part in ("warm_up", "stall", "cool_down")]
        made.lane(f"rank {rank}", f"bubble {' + '.join(map(str, found))} = {sum(found)}")
        for row in bubble_spans(run).to_pylist():
            if row["rank"] == rank:
                start, length = row["start"] / _US, row["duration"] // _US
                who = ", ".join(f"rank {culprit}" for culprit in sorted(culprits.get(rank, ())))
                told = f"{length}, for {who}" if row["part"] == "stall" else str(length)
                made.box(start, start + length, row["part"], told)
        _draw_actions(made, [a for a in pipeline_actions(run)[0] if a.rank == rank])
        made.next()
    made.axis(20, "µs")
    made.legend({**_ACTIONS, "warm_up": "warm-up", "stall": "stall", "cool_down": "cool-down"})
    bubble = sum(row["bubble_ns"] for row in rows.values()) // _US
    busy = sum(row["busy_ns"] for row in rows.values()) // _US
    made.say(
        f"bubble of window {bubble} / {len(rows) * round(window)} = "
        f"{100 * ratio['bubble_fraction_of_window']:.1f} %, over ideal {bubble} / {busy} = "
        f"{100 * ratio['bubble_over_ideal']:.1f} %"
    )
    return made.svg()


def plan_bound(folder: Path) -> str:
    """The same actions in the same order, messages taking no time."""
    run = open_run(write_pipeline(folder / "run"))
    found = step_schedule(run, 0, "pipeline")
    made = Canvas(title="Plan bound: recorded order and durations, free messages", end=STEP_END)
    ends = {}
    for name, table in (("measured", found.measured), ("replayed", found.replayed)):
        rows = table.to_pylist()
        ends[name] = max(row["start"] + row["duration"] for row in rows) // _US
        for rank in run.ranks:
            made.lane(f"rank {rank}", f"{name}: window {ends[name]}" if rank == 0 else "")
            _draw_rows(made, [row for row in rows if row["rank"] == rank])
            made.next(4)
        made.y += 12
    made.y -= 8
    made.axis(20, "µs")
    made.legend(_ACTIONS)
    (ratio,) = run.bubbles().steps.to_pylist()
    made.say(
        f"bubble of window: measured {100 * ratio['bubble_fraction_of_window']:.1f} %, plan bound "
        f"{100 * ratio['plan_bound_fraction_of_window']:.1f} %"
    )
    return made.svg()


def arrival_skew(folder: Path) -> str:
    """An all_reduce to which three ranks come one after the other."""
    run = _all_reduce(folder, (100, 120, 160), 200)
    (found,) = run.bandwidth().operations.to_pylist()
    first, end = found["start"], found["start"] + found["skew_ns"] + found["transfer_ns"]
    last = end - found["transfer_ns"]
    made = Canvas(title="Arrival skew: who waits, and what the link does", begin=80, end=end + 10)
    made.y += 12
    top = made.y
    for row in run.events(kinds=("wait",), columns=("start",)).to_pylist():
        rank, start = row["rank"], row["start"]
        told = ": the culprit" if rank == found["culprit_rank"] else ""
        made.lane(f"rank {rank}", f"seen {end - start}{told}")
        made.box(start, last, "wait", f"waits {last - start}")
        made.box(last, end, "collective", f"transfer {end - last}")
        made.next()
    for at, text in ((first, "first arrival"), (last, "last arrival"), (end, "complete")):
        made.mark(at, f"{text} {at}", top=top - 4, bottom=made.y - 4)
    made.axis(20, "ns")
    size = f"all_reduce of {found['bytes']:,} B over {found['n']} ranks"
    made.say(
        f"{size}. As seen {found['seen_ns']:.1f} ns: algbw {found['algbw_seen']:.1f}, "
        f"busbw {found['busbw_seen']:.1f} GB/s"
    )
    made.say(
        f"Skew-free {found['transfer_ns']} ns: algbw {found['algbw_skew_free']:.1f}, "
        f"busbw {found['busbw_skew_free']:.1f} GB/s; skew {found['skew_ns']} ns"
    )
    return made.svg()


def latency_bandwidth(folder: Path) -> str:
    """The line through the medians of the times of each size."""
    times = [(100, 30), (100, 30), (100, 900), (1000, 120), (1000, 120)]
    (line,) = fit_lines(transfers([{"bytes": s, "transfer_ns": t} for s, t in times]))
    made = Canvas(title="Latency and bandwidth: the line through the medians", end=1100)
    floor, scale, top = made.y + 170, 1.2, 135
    for ns in (0, 30, 60, 90, 120):
        made.rule(floor - scale * ns, f"{ns} ns")
    fitted = [(size, line.predict_ns(size) or 0.0) for size in (0, 1100)]
    made.line([(size, floor - scale * ns) for size, ns in fitted], "compute")
    for size, ns in sorted(set(times)):
        made.dot(size, floor - scale * min(ns, top), "comm:pp" if ns < top else "cool_down")
        if ns > top:
            made.say(
                f"once {ns} ns, far off the scale: no effect", at=115, y=floor - scale * top + 4
            )
    made.say(f"α = {line.alpha_ns:.0f} ns", at=20, y=floor - scale * 8)
    made.say(f"β = {line.beta_gbps:.0f} GB/s", at=570, y=floor - scale * 98)
    made.y = floor
    made.axis(200, "bytes")
    return made.svg()


def critical_path(folder: Path) -> str:
    """The actions, and the path over them."""
    run = open_run(write_pipeline(folder / "run"))
    found = run.critical_path()
    made = Canvas(title="Critical path: as long as the step", end=STEP_END)
    top = made.y
    for rank in run.ranks:
        made.lane(f"rank {rank}")
        made.box(0, STEP_END, "idle")
        _draw_actions(made, [a for a in pipeline_actions(run)[0] if a.rank == rank])
        made.next()
    places = []
    for row in found.segments.to_pylist():
        y = top + row["rank"] * (LANE + 8) + LANE + 3
        places += [(row["start"] / _US, y), ((row["start"] + row["duration"]) / _US, y)]
    made.line(places)
    made.axis(20, "µs")
    made.legend({**_ACTIONS, "path": "the path"})
    spent: Counter[str] = Counter()
    for row in found.segments.to_pylist():
        spent[row["category"]] += row["duration"] // _US
    parts = " + ".join(f"{ns} {category}" for category, ns in spent.most_common())
    made.say(f"{parts} = {found.steps['length_ns'][0].as_py() // _US}, the step time")
    return made.svg()


def what_if_replay(folder: Path) -> str:
    """The step as recorded, and with a stage in half the time."""
    run = open_run(write_pipeline(folder / "run"))
    scenario = stage_takes(2, 0.5)
    step = replayed_step(run, scenario, run.ranks)
    answer = what_if(run, [scenario])
    (prediction,) = answer.predictions
    made = Canvas(title="What-if: the same dependencies, stage 2 in half the time", end=STEP_END)
    for name, table, ns in (
        ("as recorded", step.measured, answer.measured_ns),
        ("replayed", step.predicted, prediction.step_ns),
    ):
        top = made.y + 14
        made.y += 18
        for rank in run.ranks:
            made.lane(f"rank {rank}", name if rank == 0 else "")
            _draw_rows(made, [row for row in table.to_pylist() if row["rank"] == rank])
            made.next(4)
        made.mark(ns / _US, f"step {ns / _US:.0f}", top=top, bottom=made.y - 4)
        made.y += 6
    made.axis(20, "µs")
    made.legend(_ACTIONS)
    made.say(
        f"saved {prediction.saved_ns / _US:.0f} of {answer.measured_ns / _US:.0f}; replayed "
        f"unchanged: error {100 * answer.replay_error:.0f} %"
    )
    return made.svg()


def memory(folder: Path) -> str:
    """How many microbatches each rank holds."""
    run = open_run(write_pipeline(folder / "run"))
    found = run.memory()
    made = Canvas(
        title="Microbatches held: from the forward to the end of the backward", end=STEP_END
    )
    for rank in run.ranks:
        changes = [row for row in found.in_flight.to_pylist() if row["rank"] == rank]
        most = next(row for row in found.ranks.to_pylist() if row["rank"] == rank)
        made.lane(
            f"rank {rank}",
            f"at most {most['peak_in_flight']:.0f}, by the plan {most['plan_in_flight']}",
        )
        edges = [row["ts"] / _US for row in changes] + [STEP_END]
        for row, start, end in zip(changes, edges[:-1], edges[1:], strict=True):
            if row["count"]:
                made.box(start, end, "forward", f"{row['count']:.0f}", high=row["count"] / 2)
        made.next()
    made.axis(20, "µs")
    return made.svg()


def straggler(folder: Path) -> str:
    """A rank that works longer than its peers, and the same step without that."""
    slow = open_run(Toy(more=in_steps(range(8), 1, More(work=20))).write(folder / "slow"))
    even = open_run(Toy().write(folder / "even"))
    (found,) = find_stragglers(slow).found
    told = find_stragglers(slow).step_ns / _US
    made = Canvas(
        title="Stragglers: what one costs is the step less that without it", end=told + 10
    )
    for name, run in (("as recorded", slow), ("without", even)):
        lengths = fmean(row["duration"] for row in run.accounting([1]).windows.to_pylist()) / _US
        top = made.y + 14
        made.y += 18
        for rank in run.ranks:
            made.lane(f"rank {rank}", name if rank == 0 else "")
            for row in course(run, 1, [rank]).to_pylist():
                start, length = row["start"] / _US, row["duration"] // _US
                made.box(start, start + length, row["category"], str(length))
            made.next(4)
        made.mark(lengths, f"step {lengths:.0f}", top=top, bottom=made.y - 4)
        made.y += 6
    made.axis(20, "µs")
    made.legend({"data": "data", "compute": "work", "comm:dp": "all_reduce, and waiting for it"})
    made.say(f"{found.text}: costs {found.ms_per_step * 1000:.0f} of {told:.0f}, by replay")
    return made.svg()


PICTURES: Final[dict[str, Callable[[Path], str]]] = {
    "accounting": accounting,
    "bubbles": bubbles,
    "plan-bound": plan_bound,
    "arrival-skew": arrival_skew,
    "latency-bandwidth": latency_bandwidth,
    "critical-path": critical_path,
    "what-if": what_if_replay,
    "memory": memory,
    "stragglers": straggler,
}


def _draw_actions(made: Canvas, actions: Sequence[Action]) -> None:
    for action in actions:
        start, end = action.start / _US, action.end / _US
        made.box(start, end, action.kind, f"{action.kind[0].upper()}{action.microbatch}")


def _draw_rows(made: Canvas, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        start, length = row["start"] / _US, row["duration"] / _US
        made.box(start, start + length, row["kind"], f"{row['kind'][0].upper()}{row['microbatch']}")


def _all_reduce(folder: Path, arrivals: Sequence[int], end: int) -> Run:
    """Ranks that come to an all_reduce of 4,000 B and wait for it."""
    common: dict[str, Any] = {
        "name": "all_reduce", "group": "tp:0-2", "seq": 0, "bytes": 4000, "correlation": 1,
    }  # fmt: skip
    events = {
        rank: [
            Event(start=0, duration=300, kind="step"),
            Event(start=start, duration=0, kind="collective", **common),
            Event(start=start, duration=end - start, kind="wait", **common),
        ]
        for rank, start in enumerate(arrivals)
    }
    groups = {"tp:0-2": {"dim": "tp", "ranks": list(events)}}
    facts = {rank: RankFacts(coordinates={"tp": rank}, groups=groups) for rank in events}
    return open_run(write_run(folder / "run", events, facts=facts))
