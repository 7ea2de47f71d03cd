"""Search over the timeline: each kind of term, all of them together, and what means nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.timeline import search as module
from dashboard.timeline.build import build_timeline
from dashboard.timeline.lanes import Timeline
from dashboard.timeline.search import MOST_TICKS, hit, search, ticks
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, write_run
from tracer.errors import UsageError


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    return build_timeline(open_run(write_pipeline(tmp_path / "run")))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("kind:forward", [(0, 0), (0, 10), (1, 11), (1, 21), (2, 22), (2, 52)]),
        ("FORWARD rank:1", [(1, 11), (1, 21)]),
        ("kind:forward mb:1", [(0, 10), (1, 21), (2, 52)]),
        ("kind:backward stage:1-2 mb:0", [(2, 32), (1, 53)]),
        ("sgd", [(2, 82), (1, 103), (0, 124)]),
        ("sgd step:1", []),
        ("sgd rank:1-2 step:0", [(2, 82), (1, 103)]),
        ("sgd kind:forward", []),
    ],
)
def test_terms_of_the_paper_pipeline(
    timeline: Timeline, text: str, found: list[tuple[int, int]]
) -> None:
    hits = search(timeline, text)
    there = [hit(timeline, hits, at) for at in range(len(hits.places))]
    assert [(one["rank"], one["start"] // 1000) for one in there] == found
    for one in there:  # the event that is named is the one that was found
        assert timeline.tables[one["rank"]]["start"][one["row"]].as_py() == one["start"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1 to 16 terms"),
        ("a " * 17, "1 to 16 terms"),
        ("kind:nothing", "no kind 'nothing': there are"),
        ("kind:", "no kind"),
        ("rank:x", "rank:x: wanted a number or a range"),
        ("mb:1-", "wanted a number"),
        ("step:9999999999", "wanted a number"),
    ],
)
def test_what_means_nothing_says_what_can_be_asked(
    timeline: Timeline, text: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        search(timeline, text)


def test_a_name_with_a_colon_is_a_word(timeline: Timeline) -> None:
    assert len(search(timeline, "tp:0-1").places) == 0


def test_ticks_of_very_many_hits_are_spread_over_them() -> None:
    run = open_run(Path(__file__).parents[3] / "sample_traces" / "pp2-tp2-1f1b")
    timeline = build_timeline(run)
    hits = search(timeline, "rank:0-9")
    assert len(hits.places) == len(timeline.start) > MOST_TICKS
    told = ticks(hits)
    assert len(told) == MOST_TICKS
    assert (told[0], told[-1]) == (int(hits.start[0]), int(hits.start[-1]))
    assert (np.diff(told) >= 0).all()


NUMBER = st.one_of(st.none(), st.integers(0, 3))
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "rank": st.tuples(st.integers(0, 2), st.integers(0, 1)),
        "step": st.tuples(st.integers(0, 3), st.integers(0, 2)),
        "stage": st.tuples(st.integers(0, 3), st.integers(0, 2)),
        "microbatch": st.tuples(st.integers(0, 3), st.integers(0, 2)),
        "kind": st.sampled_from(("forward", "wait")),
        "word": st.sampled_from(("all_reduce", "f", "wait")),
    },
).filter(bool)


@settings(max_examples=60, deadline=None)
@given(
    ranks=st.lists(
        st.lists(
            st.builds(
                Event,
                start=st.integers(0, 200),
                duration=st.integers(0, 40),
                kind=st.sampled_from(("step", "forward", "wait", "collective")),
                name=st.sampled_from(("F", "all_reduce")),
                lane=st.sampled_from(("host:main", "device:0")),
                step=NUMBER,
                stage=NUMBER,
                microbatch=NUMBER,
            ),
            max_size=20,
        ),
        min_size=1,
        max_size=3,
    ),
    asked=ASKED,
    at_once=st.integers(1, 9),
)
def test_a_search_finds_what_a_filter_of_all_events_finds(
    ranks: list[list[Event]], asked: dict[str, Any], at_once: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = open_run(write_run(Path(directory) / "run", dict(enumerate(ranks))))
    terms = []
    events = run.events()
    wanted = pc.not_equal(events["kind"].cast("string"), "step")
    for name, value in asked.items():
        if name == "word":
            terms.append(value)
            words = [events[column].cast("string") for column in ("name", "kind")]
            has = [pc.match_substring(word, value, ignore_case=True) for word in words]
            wanted = pc.and_(wanted, pc.or_(*has))
        elif name == "kind":
            terms.append(f"kind:{value}")
            wanted = pc.and_(wanted, pc.equal(events["kind"].cast("string"), value))
        else:
            low, high = value[0], value[0] + value[1]
            terms.append(f"{name}:{low}-{high}")
            inside = pc.and_(pc.greater_equal(events[name], low), pc.less_equal(events[name], high))
            wanted = pc.and_(wanted, pc.fill_null(inside, False))
    plain = sorted(
        (row["start"], row["duration"], row["rank"]) for row in events.filter(wanted).to_pylist()
    )
    with patch.object(module, "_AT_ONCE", at_once):
        timeline = build_timeline(run)
        hits = search(timeline, " ".join(terms))
    there = [hit(timeline, hits, at) for at in range(len(hits.places))]
    assert sorted((one["start"], one["duration"], one["rank"]) for one in there) == plain
    assert [one["start"] for one in there] == sorted(one["start"] for one in there)
    for one in there:  # the event that is named is the one that was found
        table = timeline.tables[one["rank"]]
        assert table["start"][one["row"]].as_py() == one["start"]
