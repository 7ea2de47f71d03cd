"""Slow links on paper, put into recorded runs, and none in runs that have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dashboard import open_run
from dashboard.analysis.communication.slow_links import (
    LEAST_COUNT,
    SlowLink,
    find_slow_links,
    slow_links,
)
from tests.support.launching import ROOT
from tests.support.transfers import transfers

SAMPLES = sorted(path.parent for path in (ROOT / "sample_traces").glob("*/run.json"))
PIPELINES = [path for path in SAMPLES if path.name.startswith("pp4")]


def messages(
    times: dict[tuple[int, int], int], *, count: int = LEAST_COUNT, **more: Any
) -> pa.Table:
    """`count` messages of 1,000 B between each pair, in steps of two."""
    usual = {"bytes": 1000, "group": "pp:0-3"} | more
    return transfers(
        usual | {"src": src, "dst": dst, "transfer_ns": time, "step": number // 2}
        for (src, dst), time in times.items()
        for number in range(count)
    )


def test_one_pair_on_paper() -> None:
    # Medians 100, 100, 300 and 110: the median of the links is 105, their deviations 5, 5, 195
    # and 5, so MAD 5 and sigma 7.413. z of 1 → 2: 195 / 7.413 = 26.3. Two per step: 2 × 195.
    found = find_slow_links(messages({(0, 1): 100, (1, 2): 300, (2, 3): 100, (3, 2): 110}))
    (slow,) = found
    assert (slow.link, slow.dim, slow.op, slow.bytes) == ("1 → 2", "pp", "p2p", 1000)
    assert (slow.count, slow.peers, slow.median_ns, slow.usual_ns) == (10, 3, 300, 105)
    assert slow.ratio == pytest.approx(300 / 105)
    assert slow.z == pytest.approx(195 / 7.413)
    assert slow.ns_per_step == pytest.approx(2 * 195)
    assert "1 → 2" in str(slow)
    assert "2.9 ×" in str(slow)


def test_a_group_among_groups() -> None:
    groups = {"tp:0-1": 100, "tp:2-3": 100, "tp:4-5": 250, "tp:6-7": 100}
    usual = {"bytes": 64, "dim": "tp", "op": "all_reduce", "src": None, "dst": None}
    rows = transfers(
        usual | {"group": group, "transfer_ns": time}
        for group, time in groups.items()
        for _ in range(LEAST_COUNT)
    )
    (slow,) = find_slow_links(rows)
    assert (slow.link, slow.ratio, slow.ns_per_step) == ("tp:4-5", 2.5, 1500)


@pytest.mark.parametrize(
    ("why", "table"),
    [
        ("all alike", messages({(0, 1): 100, (1, 2): 104, (2, 3): 98})),
        ("of two, none is odd", messages({(0, 1): 100, (1, 2): 900})),
        ("only 1.4 times", messages({(0, 1): 100, (1, 2): 140, (2, 3): 100})),
        ("too few", messages({(0, 1): 100, (1, 2): 900, (2, 3): 100}, count=LEAST_COUNT - 1)),
        ("all differ", messages({(0, 1): 100, (1, 2): 200, (2, 3): 300, (3, 2): 400, (2, 1): 50})),
        ("unwatched", messages({(0, 1): 100, (1, 2): 900, (2, 3): 100}, unwatched_ns=800)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_slow(why: str, table: pa.Table) -> None:
    assert find_slow_links(table) == ()


def test_other_sizes_are_no_peers() -> None:
    small = messages({(0, 1): 100, (1, 2): 100})
    large = messages({(2, 3): 900}, bytes=10**6)
    assert find_slow_links(pa.concat_tables([small, large])) == ()


def test_sizes_of_a_link_are_told_together() -> None:
    times = {(0, 1): 100, (1, 2): 300, (2, 3): 100}
    both = pa.concat_tables([messages(times), messages(times, bytes=50, count=20)])
    (slow,) = find_slow_links(both)
    # 10 messages of one size and 20 of the other, 200 longer each, over 10 steps.
    assert (slow.bytes, slow.ns_per_step) == (50, pytest.approx(200 * 30 / 10))


def test_what_costs_next_to_nothing_is_not_told() -> None:
    table = messages({(0, 1): 100, (1, 2): 300, (2, 3): 100})
    assert find_slow_links(table, step_ns=2 * 200 / 0.001)
    assert not find_slow_links(table, step_ns=2 * 200 / 0.00099)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_recorded_runs_have_none(sample: Path) -> None:
    assert slow_links(open_run(sample)) == ()


LINKS = [(0, 1), (1, 2), (2, 3), (3, 2), (2, 1), (1, 0)]


@pytest.mark.parametrize("pair", LINKS, ids=lambda pair: "{}-{}".format(*pair))
@pytest.mark.parametrize("sample", PIPELINES, ids=lambda path: path.name)
def test_a_link_that_is_made_slow_is_found(sample: Path, pair: tuple[int, int]) -> None:
    """Every transfer between two ranks takes 5 ms longer, as over a link of 3 MB/s."""
    (slow,) = find_slow_links(_slowed(sample, pair, 5_000_000), step_ns=0)
    assert slow.link == "{} → {}".format(*pair)
    assert slow.median_ns - slow.usual_ns == pytest.approx(5e6, rel=0.1)


def _slowed(sample: Path, pair: tuple[int, int], by_ns: int) -> pa.Table:
    table = open_run(sample).bandwidth().operations
    ends = zip(table["src"].to_pylist(), table["dst"].to_pylist(), strict=True)
    mine = np.array([end == pair for end in ends])
    slowed = table["transfer_ns"].to_numpy() + by_ns * mine
    place = table.schema.get_field_index("transfer_ns")
    return table.set_column(place, "transfer_ns", pa.array(slowed))


def test_slow_links_are_plain_values() -> None:
    (slow,) = find_slow_links(messages({(0, 1): 100, (1, 2): 300, (2, 3): 100}))
    assert isinstance(slow, SlowLink)
    assert slow.to_json()["link"] == "1 → 2"
