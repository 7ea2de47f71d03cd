"""Dumps of torch's flight recorder: of three real processes on gloo, and, since there is no GPU
here, dumps as FlightRecorder.hpp writes them for NCCL (made by `nccl_dump`, a stand-in).
"""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from collectors.importers import data_pickle, flight_dump
from collectors.importers.data_pickle import read_data_pickle
from collectors.importers.formats import format_named, import_files, recognized
from dashboard import open_run
from dashboard.analysis.whole_run.integrity import violations
from dashboard.run import Run
from tests.support.launching import SCRIPTS, torchrun
from tests.support.reading import calls, rows
from tracer.errors import DamagedTrace, TraceError

PARTED = "world:0-2 #9 in step 0: all_reduce of 28 B on ranks 0,2; did not arrive: rank 1"


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dumps")
    for name in ("pickles", "json"):
        (folder / name).mkdir()
    torchrun(3, SCRIPTS / "dump_flight_recorder.py", folder)
    return folder


def imported(files: list[Path], out: Path) -> Run:
    import_files(format_named("flight-recorder"), files, out, overwrite=True)
    return open_run(out)


def nccl_entry(number: int, name: str = "all_reduce", **changed: Any) -> dict[str, Any]:
    return {
        "record_id": number,
        "pg_id": 0,
        "process_group": ("0", "mesh_dp"),
        "collective_seq_id": number + 1,
        "p2p_seq_id": 0,
        "op_id": number + 1,
        "profiling_name": f"nccl:{name}",
        "time_created_ns": 1_790_000_000_000_000_000 + 1_000_000 * number,
        "input_sizes": [[4, 2]],
        "input_dtypes": ["BFloat16"],
        "output_sizes": [[4, 2]],
        "output_dtypes": ["BFloat16"],
        "state": "completed",
        "time_discovered_started_ns": None,
        "time_discovered_completed_ns": None,
        "retired": True,
        "timeout_ms": 600_000,
        "is_p2p": False,
    } | changed


def nccl_dump(folder: Path, rank: int, *entries: dict[str, Any], **changed: Any) -> Path:
    group = {"name": "0", "desc": "mesh_dp", "ranks": "[0, 1]"}
    content = {
        "version": "2.10",
        "pg_config": {"0": group},
        "comm_lib_version": "2.27.5",
        "pg_status": {},
        "entries": list(entries),
    } | changed
    path = folder / f"nccl_trace_rank_{rank}"
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["pickles", "json"])
def test_check_names_the_collective_at_which_a_real_job_parted(
    dumps: Path, tmp_path: Path, kind: str
) -> None:
    run = imported(sorted((dumps / kind).iterdir()), tmp_path / "run")
    found = {v.check: v for v in violations(run)}
    assert set(found) == {"collectives", "unfinished"}
    assert found["collectives"].text == f"{PARTED}; the last of rank 1 is #8"
    assert found["collectives"].rank == 1
    assert found["unfinished"].text.startswith("world:0-2 #9 was still going on at the end: ")
    if kind == "pickles":  # JSON dumps have no stacks
        here = f"called from main at {SCRIPTS / 'dump_flight_recorder.py'}:"
        assert here in found["unfinished"].text


@pytest.mark.distributed
def test_what_real_dumps_say(dumps: Path, tmp_path: Path) -> None:
    run = imported(sorted((dumps / "pickles").iterdir()), tmp_path / "run")
    said = [(c["name"], c["group"], c["seq"], c["bytes"], c["dtype"]) for c in calls(run.path, 0)]
    assert said[:5] == [
        ("all_reduce", "world:0-2", 1, 4096, "float32"),
        ("all_reduce", "tp:0,2", 1, 6, "bfloat16"),
        ("all_gather", "world:0-2", 2, 96, "float32"),
        ("gather", "world:0-2", 3, 24, "float32"),
        ("barrier", "world:0-2", 4, 0, None),
    ]
    assert [len(calls(run.path, rank)) for rank in run.ranks] == [11, 8, 11]
    assert run.meta.world_size == 3
    assert run.steps == (0,)
    assert run.clock.method == "one clock"
    assert run.meta.source is not None
    lacks = " ".join(run.meta.source.lacks)
    for part in ("wall clock", "how long operations took", "gloo does not note", "step 0"):
        assert part in lacks


@pytest.mark.distributed
def test_both_kinds_of_dump_say_the_same(dumps: Path, tmp_path: Path) -> None:
    runs = [imported(sorted((dumps / k).iterdir()), tmp_path / k) for k in ("pickles", "json")]
    for rank in range(3):
        of_pickle, of_json = (
            [(c["name"], c["group"], c["seq"], c["bytes"]) for c in calls(run.path, rank)]
            for run in runs
        )
        assert of_pickle == of_json


@pytest.mark.distributed
def test_a_folder_of_dumps_is_opened_as_it_is(dumps: Path) -> None:
    found = recognized(dumps / "pickles")
    assert found is not None
    assert (found[0].name, len(found[1])) == ("flight-recorder", 3)


def test_what_was_timed_is_put_as_late_as_it_can_have_been(tmp_path: Path) -> None:
    # Both were found complete at 90 ms; the second took 5 ms and ran 85-90, so that the first,
    # of 20 ms, ran 65-85 at the latest.
    at = 1_790_000_000_000_000_000
    done = {"time_discovered_completed_ns": at + 90_000_000}
    entries = [nccl_entry(0, duration_ms=20.0, **done), nccl_entry(1, duration_ms=5.0, **done)]
    run = imported([nccl_dump(tmp_path, rank, *entries) for rank in (0, 1)], tmp_path / "run")

    transfers = rows(run.path, 0, lane="device:nccl communication")
    assert [(row["start"], row["duration"]) for row in transfers] == [
        (65_000_000, 20_000_000),
        (85_000_000, 5_000_000),
    ]
    assert [row["bytes"] for row in transfers] == [16, 16]
    assert {row["group"] for row in transfers} == {"dp:0-1"}
    assert run.meta.versions["nccl"] == "2.27.5"
    assert violations(run) == []


def test_messages_are_paired_by_their_peers(tmp_path: Path) -> None:
    def ends(rank: int, name: str, first: int) -> list[dict[str, Any]]:
        return [
            nccl_entry(first + n, name, collective_seq_id=0, p2p_seq_id=n + 1, is_p2p=True)
            for n in range(2)
        ]

    files = [
        nccl_dump(tmp_path, 0, *ends(0, "send 0->1", 0)),
        nccl_dump(tmp_path, 1, *ends(1, "recv 1<-0", 0)),
    ]
    run = imported(files, tmp_path / "run")
    sent, received = calls(run.path, 0), calls(run.path, 1)
    assert [(c["kind"], c["peer"], c["seq"]) for c in sent] == [("send", 1, 0), ("send", 1, 1)]
    assert [(c["kind"], c["peer"], c["seq"]) for c in received] == [("recv", 0, 0), ("recv", 0, 1)]
    assert violations(run) == []

    nccl_dump(tmp_path, 1, *ends(1, "recv 1<-0", 7))  # seven earlier ones were overwritten
    run = imported(files, tmp_path / "run")
    assert {c["seq"] for rank in (0, 1) for c in calls(run.path, rank)} == {None}
    assert run.meta.source is not None
    assert any("had overwritten 7 operations" in said for said in run.meta.source.lacks)


def test_a_coalesced_collective_is_one_operation(tmp_path: Path) -> None:
    at = 1_790_000_000_000_000_000
    parts = [nccl_entry(n, "_all_gather_base", collective_seq_id=1) for n in range(3)]
    whole = nccl_entry(
        3,
        "coalesced",
        collective_seq_id=1,
        duration_ms=2.0,
        time_discovered_completed_ns=at + 9_000_000,
        **{f"{side}_{what}": [] for side in ("input", "output") for what in ("sizes", "dtypes")},
    )
    run = imported([nccl_dump(tmp_path, 0, *parts, whole)], tmp_path / "run")
    (call,) = calls(run.path, 0)
    assert (call["name"], call["seq"], call["bytes"], call["count"]) == ("all_gather", 1, 48, 24)
    (transfer,) = rows(run.path, 0, lane="device:nccl communication")
    assert (transfer["start"], transfer["duration"]) == (7_000_000, 2_000_000)


def test_groups_go_by_what_frameworks_call_them(tmp_path: Path) -> None:
    entry = nccl_entry(0, process_group=("0", "TENSOR_MODEL_PARALLEL_GROUP"))
    run = imported([nccl_dump(tmp_path, rank, entry) for rank in (0, 1)], tmp_path / "run")
    assert {call["group"] for call in calls(run.path, 0)} == {"tp:0-1"}


def test_a_job_that_hangs_with_all_members_present_is_told(tmp_path: Path) -> None:
    hung = nccl_entry(0, state="started", retired=False)
    run = imported([nccl_dump(tmp_path, rank, hung) for rank in (0, 1)], tmp_path / "run")
    (found,) = violations(run)
    assert found.text == (
        "dp:0-1 #1 was still going on at the end: all_reduce on rank 0; all_reduce on rank 1"
    )


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/rankscope-was-here",)


@pytest.mark.parametrize("protocol", [1, 2, 4, 5])
def test_a_pickle_that_would_run_something_is_refused_by_name(
    tmp_path: Path, protocol: int
) -> None:
    path = tmp_path / "trace_0"
    path.write_bytes(pickle.dumps({"entries": [_Evil()]}, protocol=protocol))
    with pytest.raises(DamagedTrace, match=r"trace_0: the pickle names '(posix|nt)\.system'"):
        read_data_pickle(path)


@pytest.mark.parametrize(
    ("pickled", "why"),
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", None),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "cut off"),
        (b"\x80\x02" + b"(" * 100_000 + b".", "nested more than 64 deep"),
        (b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.", "tuple keys"),
        (b"\x80\x02K\x01K\x02\x81.", "does more than hold data"),
        (b"\x80\x02K\x01K\x02\x82\x01.", "does more than hold data"),
        (b"\x80\x02P1\n.", "does more than hold data"),
        (b"\x80\x02a.", "cut off"),
        (b"\x80\x02", "cut off"),
    ],
)
def test_a_pickle_that_asks_for_too_much_is_refused(
    tmp_path: Path, pickled: bytes, why: str | None
) -> None:
    path = tmp_path / "trace_0"
    path.write_bytes(pickled)
    if why is None:  # an index of two thousand million, in which the unpickler in C believes
        assert read_data_pickle(path) == []
        return
    with pytest.raises(DamagedTrace, match=why):
        read_data_pickle(path)


def test_a_pickle_of_nothing_but_lists_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_pickle, "_MAX_CONTAINERS", 100)
    path = tmp_path / "trace_0"
    path.write_bytes(b"\x80\x02" + b"]" * 101 + b".")
    with pytest.raises(DamagedTrace, match="makes more than 100 lists and dicts"):
        read_data_pickle(path)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"input_sizes": [["a", 3]]}, "str where a whole number"),
        ({"input_sizes": [[1 << 40, 1 << 40]]}, "a tensor of more than"),
        ({"input_sizes": 3}, "int where a list"),
        ({"time_created_ns": -1}, "a number where a whole number from 0"),
        ({"time_created_ns": 1.5}, "float where a whole number"),
        ({"process_group": ("0",)}, "a list of 1, wanted name and description"),
        ({"process_group": (["0"], "dp")}, "list where text"),
        ({"profiling_name": None}, "NoneType where text"),
        ({"profiling_name": "a" * 70_000}, "a text of more than 65,536 characters"),
        ({"duration_ms": float("nan")}, "duration_ms"),
    ],
)
def test_an_entry_that_cannot_be_is_named(
    tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    files = [nccl_dump(tmp_path, 0, nccl_entry(0), nccl_entry(1, **changed))]
    with pytest.raises(DamagedTrace, match=rf"nccl_trace_rank_0: entry 1 is not one .*({why})"):
        imported(files, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_list_that_is_named_a_million_times_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_dump, "_MOST_IN_ALL", 1000)
    entry = nccl_entry(0, input_sizes=[[1]] * 300)
    with pytest.raises(DamagedTrace, match="rank_0: more than 1,000 tensors in all its entries"):
        imported([nccl_dump(tmp_path, 0, *[entry] * 9)], tmp_path / "run")


def test_a_file_of_no_known_rank_is_named(tmp_path: Path) -> None:
    path = nccl_dump(tmp_path, 0, nccl_entry(0))
    nameless = path.rename(tmp_path / "trace")
    with pytest.raises(DamagedTrace, match="trace: of which rank"):
        imported([nameless], tmp_path / "run")


def test_two_dumps_of_a_rank_are_named(tmp_path: Path) -> None:
    path = nccl_dump(tmp_path, 0, nccl_entry(0))
    other = tmp_path / "other_0.json"
    other.write_text(json.dumps({"entries": []}))
    with pytest.raises(DamagedTrace, match=r"a second dump of rank 0, beside .*nccl_trace_rank_0"):
        imported([path, other], tmp_path / "run")


def test_dumps_without_operations_say_why(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="hold no operation; was TORCH_FR_BUFFER_SIZE 0"):
        imported([nccl_dump(tmp_path, 0)], tmp_path / "run")
