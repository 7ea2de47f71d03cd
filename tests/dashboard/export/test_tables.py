"""Parquet and CSV: every view, with what its columns mean."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dashboard import open_run
from dashboard.analysis.whole_run.views import VIEWS
from dashboard.export.formats import export
from tests.test_repo.markdown import ROOT

RUN = open_run(ROOT / "sample_traces" / "pp2-tp2-1f1b")


def test_parquet_says_what_it_is(tmp_path: Path) -> None:
    export(RUN, "parquet", tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "events" / "rank-00003.parquet")
    assert schema.metadata[b"rankscope.rank"] == b"3"
    assert schema.metadata[b"rankscope.clock"] == b"common: one clock"
    assert json.loads(schema.metadata[b"rankscope.run"])["mesh"]["shape"] == [2, 2]
    assert json.loads(schema.metadata[b"rankscope.facts"])["stages"] == [1]
    assert schema.field("bytes").metadata[b"unit"] == b"bytes"
    assert b"clock that all ranks share" in schema.field("start").metadata[b"meaning"]
    counters = pq.read_table(tmp_path / "out" / "counters")
    assert counters.num_rows == RUN.counters.num_rows


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_can_be_had(tmp_path: Path, view: str) -> None:
    export(RUN, "parquet", tmp_path / "out", tables=[view])
    whole = VIEWS[view](RUN)
    found = pq.read_table(next((tmp_path / "out").glob(f"{view}*")))
    assert found.to_pylist() == whole.to_pylist()
    export(RUN, "csv", tmp_path / "out.csv", tables=[view])
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == whole.column_names
    assert len(rows) == whole.num_rows + 1


def test_lists_are_json_in_csv_and_steps_choose_rows(tmp_path: Path) -> None:
    export(RUN, "csv", tmp_path / "out.csv", tables=["collectives"], steps=[3])
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["step"] for row in rows} == {"3"}
    members = json.loads(rows[0]["members"])
    assert [member["rank"] for member in members] in ([0, 1], [2, 3])
