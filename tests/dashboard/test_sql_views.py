"""The views of SQL, by hand: collectives with their members, messages, several runs at once."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dashboard import Run, open_run, sql
from dashboard.cli.command_line import rankscope
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.errors import UsageError

GROUPS = {"tp:0-1": {"dim": "tp", "ranks": [0, 1]}}


def _all_reduce(start: int, end: int, seq: int) -> list[Event]:
    """A call of 1 and its wait."""
    what: dict[str, Any] = {
        "name": "all_reduce", "group": "tp:0-1", "seq": seq, "bytes": 1000, "correlation": seq,
    }  # fmt: skip
    return [
        Event(start=start, duration=1, kind="collective", **what),
        Event(start=start + 1, duration=end - start - 1, kind="wait", **what),
    ]


@pytest.fixture
def tensor(tmp_path: Path) -> Run:
    """Two all-reduces of two ranks; of the second, rank 1's record is missing. In µs."""
    step = Event(start=0, duration=100, kind="step")
    events = {
        0: [step, *_all_reduce(10, 24, 0), *_all_reduce(40, 50, 1)],
        1: [step, *_all_reduce(14, 24, 0)],
    }
    facts = {rank: RankFacts(coordinates={"tp": rank}, groups=GROUPS) for rank in events}
    return open_run(write_run(tmp_path / "tensor", events, facts=facts, scale=1000))


def test_a_collective_is_one_row_with_all_its_members(tensor: Run) -> None:
    whole, half = tensor.sql("select * from collectives order by seq").to_pylist()
    assert whole["members"] == [
        {"rank": 0, "start": 10_000, "end": 24_000, "wait_ns": 4_000},
        {"rank": 1, "start": 14_000, "end": 24_000, "wait_ns": 0},
    ]
    # All-reduce of two ranks has the factor 2 (n - 1) / n = 1: 1000 bytes in 10 µs, 0.1 GB/s.
    picked = [whole[name] for name in ("n", "start", "end", "culprit_rank", "busbw_skew_free")]
    assert picked == [2, 10_000, 24_000, 1, pytest.approx(0.1)]
    assert (whole["missing"], half["missing"]) == ([], [1])
    assert (half["n"], half["busbw_skew_free"], len(half["members"])) == (2, None, 1)


def test_a_message_is_one_row_with_both_ends(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run"))
    rows = run.sql(
        "select src, dst, microbatch, send_start, recv_start, recv_end, culprit_rank from p2p "
        "where src = 2 and dst = 1 order by seq"
    ).to_pylist()
    # Backward of rank 2: sent at 52 and 82; rank 1 had waited since 31 and 73 (see the toy).
    assert [tuple(row.values()) for row in rows] == [
        (2, 1, 0, 52_000, 31_000, 53_000, 2),
        (2, 1, 1, 82_000, 73_000, 83_000, 2),
    ]


def test_a_message_with_one_end_is_kept_and_has_no_bandwidth(tmp_path: Path) -> None:
    sent = Event(
        start=5, duration=1, kind="send", name="send", group="pp:0-1", seq=0, peer=1,
        bytes=8, correlation=1,
    )  # fmt: skip
    step = Event(start=0, duration=10, kind="step")
    run = open_run(write_run(tmp_path / "run", {0: [step, sent], 1: [step]}))
    (row,) = run.sql("select src, dst, send_start, recv_start, algbw_seen from p2p").to_pylist()
    assert tuple(row.values()) == (0, 1, 5, None, None)


@pytest.mark.parametrize("view", sql.VIEWS)
def test_every_view_over_two_runs_has_the_rows_of_both(tmp_path: Path, view: str) -> None:
    one = open_run(write_pipeline(tmp_path / "a" / "run", steps=1))
    two = open_run(write_pipeline(tmp_path / "b" / "run", steps=2))
    text = f"select count(*) as n from {view}"
    each = [run.sql(text).to_pylist()[0]["n"] for run in (one, two)]
    both = sql.query([one, two], f"select run, count(*) as n from {view} group by 1").to_pylist()
    found = {row["run"]: row["n"] for row in both}
    assert [found.get("a/run", 0), found.get("b/run", 0)] == each
    assert view == "collectives" or view == "counters" or min(each) > 0


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_blob('/etc/passwd')",
        "select * from parquet_metadata('/etc/passwd')",
        "select * from sniff_csv('/etc/passwd')",
        "select * from 'https://localhost/x.parquet'",
        "select * from read_json('http://localhost:1/x.json')",
        "select * from query('select * from ''/etc/passwd''')",
        "select * from duckdb_secrets()",
        "select getenv('HOME')",
        "export database 'x'",
        "call pragma_version()",
        "explain analyze select 1",
        "set memory_limit = '100GB'",
        "with x as (delete from events) select 1",
    ],
)
def test_more_that_is_not_allowed(tensor: Run, query: str) -> None:
    with pytest.raises(UsageError):
        tensor.sql(query)


def test_an_answer_of_too_many_rows_or_bytes_is_stopped(
    tensor: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "ROW_LIMIT", 1000)
    assert tensor.sql("select * from range(1000)").table.num_rows == 1000
    with pytest.raises(UsageError, match="over 1,000 rows: aggregate"):
        tensor.sql("select * from range(1000000000000)")
    monkeypatch.setattr(sql, "ANSWER_LIMIT", 1 << 20)
    with pytest.raises(UsageError, match="over 1 MB: narrow it"):
        tensor.sql("select repeat('x', 10000) from range(500)")


def test_the_first_rows_are_given_with_word_of_more(tensor: Run) -> None:
    found = sql.query(tensor, "select range as a from range(5) order by a desc", most_rows=2)
    assert (found.to_pylist(), found.is_cut) == ([{"a": 4}, {"a": 3}], True)


def test_json_is_valid_whatever_the_values(tensor: Run) -> None:
    done = CliRunner().invoke(
        rankscope,
        [
            "query", str(tensor.path), "--json",
            "select 'nan'::double as a, 'inf'::double as b, sum(range) as c, "
            "date '2026-01-02' as d, [1.5, 'nan'::double] as e from range(3)",
        ],
    )  # fmt: skip

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    rows = json.loads(done.stdout, parse_constant=refuse)
    assert rows == [{"a": None, "b": None, "c": 3, "d": "2026-01-02", "e": [1.5, None]}]


def test_csv_holds_all_rows_with_lists_as_json_and_sql_may_come_from_a_pipe(tensor: Run) -> None:
    done = CliRunner().invoke(
        rankscope,
        ["query", str(tensor.path), "-", "--csv"],
        input="select range as n, ['a', 'b'] as l, null as nothing from range(100)",
    )
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == 100
    assert rows[99] == {"n": "99", "l": '["a", "b"]', "nothing": ""}


def test_views_take_the_events_as_they_are_in_memory(tensor: Run) -> None:
    table = sql.view([tensor], "events")
    for rank in tensor.ranks:
        rows = tensor.tables[rank]
        (place,) = (i for i, chunk in enumerate(table["rank"].chunks) if chunk[0].as_py() == rank)
        for name in ("start", "duration", "bytes"):
            there, here = table[name].chunk(place), rows[name].chunk(0)
            assert there.buffers()[1].address == here.buffers()[1].address


def test_the_command_takes_several_runs(tmp_path: Path, tensor: Run) -> None:
    other = write_pipeline(tmp_path / "other")
    done = CliRunner().invoke(
        rankscope,
        [
            "query", str(tensor.path), str(other), "--json",
            "select run, count(distinct rank) as ranks from steps group by 1 order by 1",
        ],
    )  # fmt: skip
    assert json.loads(done.stdout) == [
        {"run": "other", "ranks": 3},
        {"run": "tensor", "ranks": 2},
    ]
