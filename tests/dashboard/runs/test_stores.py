"""Runs on an object store give the same answers, and no more of them is fetched than is needed.

Bytes are counted by the endpoint, not by us.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from benchmarks._synthetic import MICROBATCHES, write_synthetic_run
from dashboard import open_run
from dashboard.cli.report import report_json
from dashboard.runs import packed
from dashboard.runs.gather import gather, survey
from dashboard.runs.packed_tables import PackedTables
from dashboard.runs.reopening import opening_of, reopened
from dashboard.runs.stores import Store, location_of, shown, store_at
from tests.support.object_store import Endpoint, endpoint
from tests.test_repo.markdown import ROOT
from tracer.errors import RankscopeError, TraceError, UsageError
from tracer.schema import events_file

SAMPLE = ROOT / "sample_traces" / "pp2-tp2-1f1b"
FOOTER = 64 << 10
"""What a reader of Parquet asks for to find the footer."""


def _gathered(source: Path, address: str, *, pack: bool) -> str:
    source_store, destination = store_at(source), store_at(address)
    gather(survey([source_store], destination), destination, packed=pack)
    return address


def _report(location: str | Path) -> dict[str, object]:
    found = report_json(open_run(location), None)
    found["run"].pop("name")
    return found


@pytest.mark.parametrize("pack", [False, True], ids=["streams", "packed"])
def test_the_report_of_a_run_on_s3_is_that_of_the_directory(s3: Endpoint, pack: bool) -> None:
    address = _gathered(SAMPLE, s3.address(f"report-{pack}"), pack=pack)
    assert _report(address) == _report(SAMPLE)
    run = open_run(address)
    assert (run.name, run.source) == (f"report-{pack}", address)
    assert run.counters.equals(open_run(SAMPLE).counters)
    assert run.sql("select count(*) as n from events").to_pylist()[0]["n"] == run.event_count


def test_streams_are_fetched_once(s3: Endpoint) -> None:
    address = _gathered(SAMPLE, s3.address("once"), pack=False)
    s3.forget()
    open_run(address)
    streams = sum(path.stat().st_size for path in SAMPLE.glob("rank-?????.arrows"))
    assert s3.sent(r"rank-\d+\.arrows") == streams
    s3.forget()
    open_run(address).accounting()
    assert s3.sent("rank-") == 0


@pytest.mark.parametrize("said_in", ["address", "environment"])
def test_the_same_address_at_another_endpoint_is_another_run(
    s3: Endpoint, monkeypatch: pytest.MonkeyPatch, said_in: str
) -> None:
    """Both endpoints serve the same bucket here, so that sizes and times do not tell them apart."""
    address = _gathered(SAMPLE, s3.address("same-name"), pack=False)
    with endpoint() as other:
        for here in (s3, other):
            asked = address
            if said_in == "address":
                host = here.url.removeprefix("http://")
                asked += f"?scheme=http&endpoint_override={host}"
            else:
                monkeypatch.setenv("AWS_ENDPOINT_URL", here.url)
            here.forget()
            assert open_run(asked).name == "same-name"
            assert here.sent(r"rank-\d+\.arrows") > 0


def test_other_files_beside_a_run_do_not_keep_workers_from_it(s3: Endpoint) -> None:
    address = _gathered(SAMPLE, s3.address("beside"), pack=False)
    store_at(address).write("notes.md", b"the new cluster")
    run = open_run(address)
    assert reopened(opening_of(run)).event_count == run.event_count


def test_opening_a_packed_run_takes_one_file(s3: Endpoint) -> None:
    address = _gathered(SAMPLE, s3.address("opening"), pack=True)
    s3.forget()
    run = open_run(address)
    assert run.steps == open_run(SAMPLE).steps
    fetched = {request.path.rpartition("/")[2] for request in s3.log if request.method == "GET"}
    assert fetched == {"traces", "packed.json"}  # the list of files is asked of the bucket


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks of 60,000 events each."""
    return write_synthetic_run(tmp_path_factory.mktemp("long") / "long", events=120_000, ranks=2)


def test_only_columns_and_groups_of_rows_that_are_needed_are_fetched(
    s3: Endpoint, long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed.pack, "__kwdefaults__", {"rows": 4_096})
    address = _gathered(long_run, s3.address("long"), pack=True)
    whole = sum(facts[0] for name, facts in store_at(address).names().items() if "parquet" in name)
    steps = [3, 4]
    expected = open_run(long_run).events(ranks=[1], steps=steps, columns=("start", "kind"))

    run = open_run(address)
    s3.forget()
    found = run.events(ranks=[1], steps=steps, columns=("start", "kind"))
    assert found.to_pylist() == expected.to_pylist()
    assert found.num_rows == len(steps) * (MICROBATCHES * 56 + 1)
    assert s3.sent("rank-00000") == 0
    assert isinstance(run.tables, PackedTables)
    assert run.tables.fetched > 0
    sent = s3.sent("rank-00001")
    assert run.tables.fetched <= sent <= FOOTER + 2 * run.tables.fetched
    assert sent - FOOTER < whole / 2 / 10
    s3.forget()
    run.events(ranks=[1], steps=steps, columns=("kind",))
    assert not s3.log, "what was fetched is kept"
    run.events(ranks=[1], columns=("start",))
    one_column = s3.sent("rank-00001")
    assert one_column < whole / 2 / 2


def test_a_packed_run_on_a_disk_is_opened_as_well(tmp_path: Path) -> None:
    _gathered(SAMPLE, str(tmp_path / "packed"), pack=True)
    assert _report(tmp_path / "packed") == _report(SAMPLE)
    (tmp_path / "packed" / "packed.json").write_text("{}")
    shutil.rmtree(tmp_path / "packed" / ".rankscope-cache", ignore_errors=True)
    assert _report(tmp_path / "packed") == _report(SAMPLE)


def test_parquet_beside_a_recording_is_somebody_elses(tmp_path: Path) -> None:
    shutil.copytree(SAMPLE, tmp_path / "run")
    (tmp_path / "run" / packed.packed_file(0)).write_bytes(b"PAR1")
    assert open_run(tmp_path / "run").event_count == open_run(SAMPLE).event_count
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / packed.packed_file(0)).write_bytes(b"PAR1")
    with pytest.raises(TraceError, match=r"no packed rank is readable: rank-00000\.parquet: not a"):
        open_run(tmp_path / "export")


def test_damage_is_an_error_of_ours_or_a_problem(tmp_path: Path) -> None:
    _gathered(SAMPLE, str(tmp_path / "run"), pack=True)
    (tmp_path / "run" / "packed.json").unlink()
    path = tmp_path / "run" / packed.packed_file(1)
    whole = path.read_bytes()
    chance = random.Random(20_261_127)
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 40])):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged[: chance.choice([len(whole), len(whole) // 2])])
        with contextlib.suppress(RankscopeError):
            assert open_run(tmp_path / "run").events().num_rows > 0


def test_a_rank_that_is_missing_is_said(s3: Endpoint) -> None:
    address = _gathered(SAMPLE, s3.address("missing"), pack=True)
    store = store_at(address)
    store._files.delete_file(store._at(packed.packed_file(2)))
    run = open_run(address)
    assert run.ranks == (0, 1, 3)
    assert [str(p) for p in run.problems] == [
        f"{events_file(2)}: missing; copy it here from the host of this rank. The others are shown"
    ]


def test_errors_name_the_store_and_the_mend(s3: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TraceError, match=r"^s3://traces/nothing: no run is there"):
        open_run(s3.address("nothing"))
    with pytest.raises(TraceError, match=r"^s3://no-such-bucket/a: no run is there"):
        open_run("s3://no-such-bucket/a")
    with pytest.raises(UsageError, match=r"^s3://: names no bucket"):
        open_run("s3://")
    with pytest.raises(UsageError, match="name a directory, s3://"):
        open_run("nosuch://bucket/a")
    monkeypatch.setattr(s3, "fail", lambda method, path: True)
    with pytest.raises(TraceError, match=r"s3://traces/secret: .*AWS_ENDPOINT_URL"):
        open_run("s3://user:password@traces/secret")


def test_what_arrow_calls_unknown_is_explained_as_well() -> None:
    """Azure's refusal of the credentials is such an error. A mock: there is no Azure here."""

    class Refusing:
        def get_file_info(self, _: object) -> object:
            raise pa.ArrowException("Unknown error: no credentials")

    store = Store("abfs://traces/run", None, cast(pafs.FileSystem, Refusing()), "traces/run")
    with pytest.raises(TraceError, match=r"^abfs://traces/run: .*; check the address and the cred"):
        store.names()


def test_addresses_are_told_from_paths() -> None:
    assert location_of(Path("s3://bucket/run")) == "s3://bucket/run"
    assert location_of("runs/a") == Path("runs/a")
    assert shown("s3://key:secret@bucket/run/?endpoint_override=x") == "s3://bucket/run"
