"""A marked stretch, looked up: the same numbers as going through all events gives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import Run, open_run
from dashboard.analysis.time_spent.selection import select
from dashboard.timeline import by_category, by_name
from dashboard.timeline.build import build_timeline
from dashboard.timeline.by_name import NO_BYTES, added_up, of_single
from dashboard.timeline.index import open_timeline
from dashboard.timeline.lanes import Timeline
from dashboard.timeline.selection import selected
from tests.support.toy import Event, write_run
from tests.test_repo.markdown import ROOT
from tracer.errors import UsageError
from tracer.schema import KINDS

SAMPLE = open_run(ROOT / "sample_traces" / "pp2-tp2-1f1b")


@contextmanager
def blocks_of(events: int) -> Iterator[None]:
    """So few that even a small run has many."""
    with patch.object(by_name, "BLOCK", events), patch.object(by_category, "BLOCK", events):
        yield


def agree(run: Run, timeline: Timeline, begin: int, end: int, ranks: set[int] | None) -> None:
    looked_up, plain = selected(run, timeline, begin, end, ranks), select(run, begin, end, ranks)
    assert looked_up.accounting.equals(plain.accounting)
    assert looked_up.events.to_pylist() == plain.events.to_pylist()
    assert looked_up.events.schema.types == plain.events.schema.types


EVENTS = st.lists(
    st.builds(
        Event,
        start=st.integers(0, 300),
        duration=st.integers(0, 90),
        kind=st.sampled_from(KINDS),
        name=st.sampled_from(("F", "all_reduce")),
        lane=st.sampled_from(("host:main", "host:other", "device:0")),
        group=st.sampled_from((None, "tp:0-1", "dp:0")),
        bytes=st.sampled_from((None, 0, 7, 1 << 40)),
    ),
    max_size=30,
)


@settings(max_examples=30, deadline=None)
@given(
    ranks=st.lists(EVENTS, min_size=1, max_size=2),
    block=st.integers(1, 5),
    stretches=st.lists(
        st.tuples(st.integers(-20, 420), st.integers(1, 420)), min_size=3, max_size=3
    ),
)
def test_made_up_events_add_up_as_one_by_one(
    ranks: list[list[Event]], block: int, stretches: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as directory, blocks_of(block):
        run = open_run(write_run(Path(directory) / "run", dict(enumerate(ranks))))
        timeline = build_timeline(run, few_events=-1)
        assert timeline.sums is not None
        for begin, length in stretches:
            agree(run, timeline, begin, begin + length, None)
            agree(run, timeline, begin, begin + length, {len(ranks) - 1})


@pytest.mark.parametrize("block", [1, 64, 1 << 10])
def test_a_recorded_run_adds_up_as_one_by_one(block: int) -> None:
    with blocks_of(block):
        timeline = build_timeline(SAMPLE, few_events=0)
        agree(SAMPLE, timeline, *timeline.span, None)
        random = np.random.default_rng(1)
        for _ in range(8):
            begin, end = sorted(random.integers(timeline.span[0], timeline.span[1], 2).tolist())
            agree(SAMPLE, timeline, begin, end + 1, {0, 3})
            # at the edges of an event, where it is in by a nanosecond or just not
            at = int(random.integers(len(timeline.start)))
            start = int(timeline.start[at])
            agree(SAMPLE, timeline, start, start + int(timeline.duration[at]) + 1, None)


def test_the_file_has_the_same_sums(tmp_path: Path) -> None:
    run = open_run(ROOT / "sample_traces" / "pp4-1f1b-slow-stage")
    run.path = tmp_path / "elsewhere"  # where its index goes
    run.path.mkdir()
    timeline = open_timeline(run, few_events=0)
    assert next(run.path.rglob("timeline.index")).stat().st_size > len(timeline.start)
    begin, end = timeline.span
    agree(run, timeline, begin, end, None)
    agree(run, timeline, begin + (end - begin) // 3, begin + (end - begin) // 2, {1, 2})


def test_a_run_of_few_events_is_gone_through() -> None:
    timeline = build_timeline(SAMPLE)
    assert timeline.sums is None
    agree(SAMPLE, timeline, 0, 1_000_000, {1})


@pytest.mark.parametrize(("begin", "end", "ranks"), [(5, 5, None), (9, 5, None), (0, 5, {77})])
def test_nothing_selected_says_so(begin: int, end: int, ranks: set[int] | None) -> None:
    with pytest.raises(UsageError, match="nothing is selected"):
        selected(SAMPLE, build_timeline(SAMPLE, few_events=0), begin, end, ranks)


def test_sums_of_a_code_are_one_column() -> None:
    """Durations 20, 10, 30; only one of code 7 has a payload."""
    single = of_single(np.array([7, 5, 7]), np.array([20, 10, 30]), np.array([8, NO_BYTES, -1]))
    assert added_up(single).tolist() == [[5, 7], [1, 2], [10, 50], [10, 30], [-1, 8]]
    assert added_up(single[:, :0]).shape == (5, 0)
