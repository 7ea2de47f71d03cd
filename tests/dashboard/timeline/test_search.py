"""Search over the timeline: each kind of term, all of them together, and what means nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dashboard import open_run
from dashboard.timeline.lanes import Timeline, build_timeline
from dashboard.timeline.search import MOST_TICKS, hit, search, ticks
from tests.support.pipeline_toy import write_pipeline
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
