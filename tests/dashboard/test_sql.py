"""SQL over a run: right answers, and a box that it cannot get out of."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import Run, open_run, sql
from tests.support.pipeline_toy import write_pipeline
from tracer.errors import UsageError


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(write_pipeline(tmp_path / "run", steps=2))


def test_count_by_kind(run: Run) -> None:
    table = run.sql("select kind, count(*) as n from events group by 1 order by 1").to_arrow()
    # Two steps of three ranks: 6 forward, 6 backward, 8 messages a step, one wait per receive.
    assert dict(zip(table["kind"].to_pylist(), table["n"].to_pylist(), strict=True)) == {
        "forward": 12, "backward": 12, "optimizer": 6, "step": 6, "send": 16, "recv": 16,
        "wait": 16,
    }  # fmt: skip


def test_views_join(run: Run) -> None:
    rows = run.sql(
        "select a.rank, sum(a.duration) = sum(distinct s.duration) as closes "
        "from accounting a join steps s using (rank, step) where step = 0 group by a.rank"
    ).to_pylist()
    assert [row["closes"] for row in rows] == [True, True, True]


@pytest.mark.parametrize(
    "query",
    [
        "select * from '/etc/passwd'",
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/proc/self/environ')",
        "select * from glob('/*')",
        "copy (select 1) to '/tmp/out.csv'",
        "attach '/tmp/other.db'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "pragma enable_profiling",
        "create table x as select 1",
        "select 1; select 2",
        "select * from run",
        "",
        "select",
        "not sql at all",
    ],
)
def test_what_is_not_allowed_is_a_usage_error(run: Run, query: str) -> None:
    with pytest.raises(UsageError):
        run.sql(query)


def test_a_query_without_end_is_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "TIME_LIMIT_S", 0.2)
    with pytest.raises(UsageError, match="narrow it"):
        run.sql("select count(*) from range(1000000000) a, range(1000000000) b")


def test_of_more_rows_than_are_asked_for_come_the_first_in_their_order(run: Run) -> None:
    found = sql.query(run, "select range as a from range(9) order by a desc;", most_rows=3)
    assert (found.table["a"].to_pylist(), found.is_cut) == ([8, 7, 6], True)
    whole = sql.query(run, "select range as a from range(3)", most_rows=3)
    assert (whole.table.num_rows, whole.is_cut) == (3, False)


def test_who_asks_may_have_less_patience(run: Run) -> None:
    endless = "select sum(sqrt(range)) from range(1000000000000000)"  # and needs no memory
    with pytest.raises(UsageError, match="took over 1 s"):
        sql.query(run, endless, time_limit_s=1)


def test_a_query_over_the_memory_limit_is_stopped_and_writes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "MEMORY_LIMIT", "50MB")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    # Two million rows of 24 bytes have to be sorted at once: about 50 MB before any copy.
    rows = "select range as a, random() as b, hash(range) as c from range(2000000)"
    with pytest.raises(UsageError, match="needs over 50MB of memory: narrow it"):
        run.sql(f"select max(b) from (select * from ({rows}) order by b, c offset 5)")
    assert sorted(tmp_path.iterdir()) == before
    setting = run.sql("select current_setting('temp_directory') as t").to_pylist()
    assert setting == [{"t": ""}]
