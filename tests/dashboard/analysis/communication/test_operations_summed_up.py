"""Messages by pair, skew by group, and bandwidth by size, on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dashboard import open_run
from dashboard.analysis.communication.bandwidth_by_size import bandwidth_by_size
from dashboard.analysis.communication.messages import message_totals
from dashboard.analysis.communication.skew import arrival_skew
from tests.support.pipeline_toy import write_pipeline


@pytest.fixture
def messages(tmp_path: Path) -> pa.Table:
    """Those of the paper pipeline: eight of 4,000 B (tests/support/pipeline_toy.py)."""
    return open_run(write_pipeline(tmp_path / "run")).bandwidth().operations


def operations(*rows: dict[str, Any]) -> pa.Table:
    """All_reduces with the given fields."""
    common = {
        "group": "tp:0-1", "dim": "tp", "op": "all_reduce", "bytes": 100, "transfer_ns": 10,
        "skew_ns": 0, "culprit_rank": 0, "busbw_seen": 1.0, "busbw_skew_free": 1.0,
        "src": None, "dst": None,
    }  # fmt: skip
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("group", "dim", "op")),
            *((name, pa.int64()) for name in ("seq", "bytes", "transfer_ns", "skew_ns")),
            *((name, pa.float64()) for name in ("busbw_seen", "busbw_skew_free")),
            *((name, pa.int32()) for name in ("culprit_rank", "src", "dst")),
        ]
    )
    return pa.Table.from_pylist(
        [common | {"seq": seq} | row for seq, row in enumerate(rows)], schema=schema
    )


def test_message_totals_leave_out_what_took_no_time(messages: pa.Table) -> None:
    rows = message_totals(messages).to_pylist()
    assert [(row["src"], row["dst"], row["count"], row["bytes"]) for row in rows] == [
        (0, 1, 2, 8000),
        (1, 0, 2, 8000),
        (1, 2, 2, 8000),
        (2, 1, 2, 8000),
    ]
    # Every message that was waited for took 1 µs; forward, the second one of each pair was there
    # before the receive, took no time, and tells nothing of the link: 4,000 B / 1 µs everywhere.
    assert [row["gbps"] for row in rows] == pytest.approx([4.0] * 4)


def test_a_pair_without_any_time_has_no_bandwidth() -> None:
    table = operations({"op": "p2p", "src": 0, "dst": 1, "transfer_ns": 0})
    (row,) = message_totals(table).to_pylist()
    assert (row["bytes"], row["gbps"]) == (100, None)


def test_skew_of_messages_by_pair_the_largest_total_first(messages: pa.Table) -> None:
    found = [
        (row["src"], row["dst"], row["skew_ns_total"], row["culprit_rank"], row["culprit_share"])
        for row in arrival_skew(messages).to_pylist()
    ]
    assert found == [
        (1, 0, 53_000 + 9_000, 1, 1.0),  # posted 20 and 94, sent 73 and 103
        (1, 2, 21_000 + 21_000, 1, 0.5),  # posted 0 and 52, sent 21 and 31: once each
        (2, 1, 21_000 + 9_000, 2, 1.0),  # posted 31 and 73, sent 52 and 82
        (0, 1, 10_000 + 1_000, 0, 0.5),  # posted 0 and 21, sent 10 and 20: once each
    ]


def test_skew_of_collectives_names_who_is_most_often_last() -> None:
    table = operations(
        {"skew_ns": 4, "culprit_rank": 1},
        {"skew_ns": 2, "culprit_rank": 1},
        {"skew_ns": 6, "culprit_rank": 0},
    )
    (row,) = arrival_skew(table).to_pylist()
    assert (row["count"], row["skew_ns_mean"], row["skew_ns_total"]) == (3, 4.0, 12)
    assert (row["culprit_rank"], row["culprit_share"]) == (1, pytest.approx(2 / 3))


def test_bandwidth_of_a_size_is_the_median_with_the_10th_and_90th_percentile() -> None:
    # 0 … 10: the percentiles of eleven evenly spaced values are the values themselves.
    seen = [{"busbw_seen": float(value), "busbw_skew_free": 20.0} for value in range(11)]
    (row,) = bandwidth_by_size(operations(*seen)).to_pylist()
    assert (row["bytes"], row["count"]) == (100, 11)
    assert [row[f"busbw_seen{end}"] for end in ("_low", "", "_high")] == pytest.approx([1, 5, 9])
    assert row["busbw_skew_free"] == 20.0


def test_sizes_stay_apart_and_barriers_stay_out() -> None:
    table = operations(
        {"bytes": 200},
        {"bytes": 100, "busbw_skew_free": None},
        {"op": "barrier", "bytes": 0, "busbw_seen": None, "busbw_skew_free": None},
    )
    rows = bandwidth_by_size(table).to_pylist()
    assert [(row["bytes"], row["busbw_skew_free"]) for row in rows] == [(100, None), (200, 1.0)]


def test_nothing_sums_up_to_nothing() -> None:
    for summed_up in (message_totals, arrival_skew, bandwidth_by_size):
        assert summed_up(operations()).num_rows == 0
