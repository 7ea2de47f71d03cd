"""What adds up, over random runs of several ranks, steps, lanes and groups: accounting, overlap
and bubbles, each against its definition taken nanosecond by nanosecond.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.time_spent.accounting import Accounting, account
from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.analysis.whole_run.summary import communication_by_dimension
from tests.support.toy import Event, RankFacts, write_run
from tracer.schema import COMMUNICATION_KINDS, COMPUTE_KINDS

LANES = ("host:main", "host:other", "device:7", "device:7 communication")
ISSUED = (*COMMUNICATION_KINDS, "wait")
WORK = (*COMPUTE_KINDS, "optimizer", "data", "user", "module")
ORDER = ("tp", "pp", "dp", "other")
"""Dimensions, the first to claim an instant before the next."""

Events = dict[int, list[Event]]


@st.composite
def _runs(draw: st.DrawFn) -> Events:
    """Ranks with steps of their own lengths, side by side, and spans that nest, overlap, cross
    the ends of steps and lie on any lane; some runs have nothing on device lanes.
    """
    lanes = draw(st.sampled_from([LANES, LANES[:2]]))
    lengths = st.lists(st.integers(1, 80), min_size=1, max_size=3)
    steps = draw(lengths)
    events: Events = {}
    for rank in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, 20))
        rows = events[rank] = []
        begins = []
        for step in range(len(steps)):
            length = draw(st.integers(1, 80))
            rows.append(Event(start=at, duration=length, kind="step", step=step))
            begins.append(at)
            at += length
        for number in range(draw(st.integers(0, 12))):
            kind = draw(st.sampled_from((*ISSUED, *WORK)))
            start = draw(st.integers(0, at))
            rows.append(
                Event(
                    start=start,
                    duration=draw(st.integers(0, 60)),
                    kind=kind,
                    lane=draw(st.sampled_from(lanes)),
                    step=max(sum(begin <= start for begin in begins) - 1, 0),
                    stage=rank if kind in COMPUTE_KINDS else None,
                    microbatch=number if kind in COMPUTE_KINDS else None,
                    group=draw(st.sampled_from(("tp:0", "pp:0", "dp:0", "ep:0"))),
                    seq=number,
                    correlation=draw(st.sampled_from((None, number, 0))),
                )
            )
    return events


def _instants(events: list[Event], begin: int, end: int) -> set[int]:
    return {at for e in events for at in range(max(e.start, begin), min(e.start + e.duration, end))}


def _communication(events: list[Event]) -> list[Event]:
    """Where a device worked: what it shows, and of the rest what the host did by itself."""
    if not any(
        e.lane.startswith("device:") and e.kind in (*COMPUTE_KINDS, "optimizer") for e in events
    ):
        return [e for e in events if e.kind in ISSUED]  # fmt: skip
    shown = [e for e in events if e.kind in ISSUED and e.lane.startswith("device:")]
    names = {e.correlation for e in shown} - {None}
    return shown + [
        e for e in events
        if e.kind in ISSUED and e.lane.startswith("host:") and e.correlation not in names
    ]  # fmt: skip


def _dim(event: Event) -> str:
    dim = (event.group or "").partition(":")[0]
    return dim if dim in ORDER else "other"


def _account(tmp_path_factory: pytest.TempPathFactory, events: Events) -> Accounting:
    return account(open_run(write_run(tmp_path_factory.mktemp("closing"), events)))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_runs())
def test_accounting_closes_for_every_rank_and_step(
    tmp_path_factory: pytest.TempPathFactory, events: Events
) -> None:
    accounting = _account(tmp_path_factory, events)
    sums: dict[tuple[int, int], int] = defaultdict(int)
    for row in accounting.table.to_pylist():
        assert row["duration"] >= 0
        sums[row["rank"], row["step"]] += row["duration"]
    assert sums == {
        (rank, e.step): e.duration for rank, rows in events.items() for e in rows
        if e.kind == "step"
    }  # fmt: skip
    assert accounting.table.num_rows == len(sums) * len(CATEGORIES)
    assert sum(accounting.share(category) for category in CATEGORIES) == pytest.approx(1)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_runs())
def test_exposed_and_overlapped_are_all_of_each_dimension(
    tmp_path_factory: pytest.TempPathFactory, events: Events
) -> None:
    """The total is by definition; exposed is the accounting's category, overlapped all the rest."""
    first = min(e.start for rows in events.values() for e in rows)
    begun = {rank: [_moved(e, -first) for e in rows] for rank, rows in events.items()}
    accounting = _account(tmp_path_factory, begun)
    found = {(r["rank"], r["step"], r["dim"]): r for r in accounting.overlap.to_pylist()}
    exposed = {
        (row["rank"], row["step"], row["category"].removeprefix("comm:")): row["duration"]
        for row in accounting.table.to_pylist()
        if row["category"].startswith("comm:")
    }
    wanted: dict[tuple[int, int | None, str], int] = {}
    for rank, rows in begun.items():
        for window in (e for e in rows if e.kind == "step"):
            begin, end = window.start, window.start + window.duration
            for dim in ORDER:
                mine = [e for e in _communication(rows) if _dim(e) == dim]
                if total := len(_instants(mine, begin, end)):
                    wanted[rank, window.step, dim] = total
    assert {key: row["total_ns"] for key, row in found.items()} == wanted
    for key, total in wanted.items():
        assert found[key]["exposed_ns"] == exposed[key] <= total
    windows = accounting.windows.num_rows
    for row in communication_by_dimension(accounting).to_pylist():
        assert row["exposed_ns"] + row["overlapped_ns"] == pytest.approx(row["total_ns"])
        total = sum(length for (_, _, dim), length in wanted.items() if dim == row["dim"])
        assert row["total_ns"] == pytest.approx(total / windows)
        assert 0 <= row["overlap"] <= 1


def _moved(event: Event, by: int) -> Event:
    return replace(event, start=event.start + by)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_runs())
def test_busy_and_the_parts_of_the_bubble_are_the_window(
    tmp_path_factory: pytest.TempPathFactory, events: Events
) -> None:
    facts = {rank: RankFacts(coordinates={"pp": rank}, stages=(rank,)) for rank in events}
    run = open_run(write_run(tmp_path_factory.mktemp("parts"), events, facts=facts))
    bubbles = run.bubbles()
    for row in bubbles.ranks.to_pylist():
        parts = [row[f"{part}_ns"] for part in ("warm_up", "stall", "cool_down")]
        assert min(row["busy_ns"], *parts) >= 0
        assert sum(parts) == row["bubble_ns"]
        assert row["busy_ns"] + row["bubble_ns"] == row["window_ns"]
        mine = bubbles.stalls.filter(
            pc.and_(
                pc.equal(bubbles.stalls["rank"], row["rank"]),
                pc.equal(bubbles.stalls["step"], row["step"]),
            )
        )
        assert sum(mine["stall_ns"].to_pylist()) == row["stall_ns"]
    for step in bubbles.steps.to_pylist():
        ranks = bubbles.ranks.filter(pc.equal(bubbles.ranks["step"], step["step"]))
        bubble, busy = (sum(ranks[name].to_pylist()) for name in ("bubble_ns", "busy_ns"))
        if bubble + busy:
            assert step["bubble_fraction_of_window"] == pytest.approx(bubble / (bubble + busy))
