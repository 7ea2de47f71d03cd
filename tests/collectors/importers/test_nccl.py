"""NCCL Inspector's lines as its README and inspector_json.cc have them: no GPU is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from collectors.importers.formats import format_named, import_files, recognized
from dashboard import open_run
from dashboard.analysis.communication.bandwidth import measure_bandwidth
from dashboard.analysis.whole_run.integrity import violations
from dashboard.run import Run
from tests.support.reading import calls, rows
from tracer.errors import DamagedTrace, TraceError

NOW = 1_748_030_377_748_202
"""µs since 1970, when the records of these tests were written."""


def record(
    rank: int, number: int, micros: float, *, version: str = "v4.2", ranks: int = 2, **changed: Any
) -> dict[str, Any]:
    """One line of format v4.2; `changed` is of the operation itself."""
    return {
        "header": {
            "id": "0x7f8c496ae9f661",
            "comm_name": "DP Group 0",
            "rank": rank,
            "n_ranks": ranks,
            "nnodes": 1,
        },
        "metadata": {
            "inspector_output_format_version": version,
            "git_rev": "",
            "rec_mechanism": "nccl_profiler_interface",
            "dump_timestamp_us": NOW,
            "hostname": "node0",
            "pid": 4000 + rank,
        },
        "coll_perf": {
            "coll": "AllReduce",
            "coll_algo": "RING",
            "coll_proto": "LL",
            "coll_sn": number,
            "coll_msg_size_bytes": 1_000_000,
            "coll_exec_time_us": micros,
            "coll_timing_source": "kernel_gpu",
            "coll_algobw_gbs": 0.0,
            "coll_busbw_gbs": 0.0,
        }
        | changed,
    }


def message(rank: int, what: str, number: int, peer: int, micros: int) -> dict[str, Any]:
    line = record(rank, 0, 0)
    del line["coll_perf"]
    line["p2p_perf"] = {
        "p2p": what,
        "p2p_sn": number,
        "p2p_peer": peer,
        "p2p_msg_size_bytes": 64_000,
        "p2p_exec_time_us": micros,
        "p2p_timing_source": "kernel_gpu",
        "p2p_algobw_gbs": 0.0,
        "p2p_busbw_gbs": 0.0,
    }
    return line


def written(folder: Path, rank: int, *lines: dict[str, Any]) -> Path:
    path = folder / f"node0-pid{4000 + rank}.log"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def imported(files: list[Path], out: Path) -> Run:
    import_files(format_named("nccl"), files, out, overwrite=True)
    return open_run(out)


def lacks(run: Run) -> str:
    assert run.meta.source is not None
    return " ".join(run.meta.source.lacks)


def test_the_bandwidth_is_what_the_inspector_says(tmp_path: Path) -> None:
    # The example of the Inspector's README: 17,179,869,184 bytes in 61,974 µs over 8 ranks,
    # algbw 277.210914 and busbw 485.119099 GB/s.
    line = {"coll_msg_size_bytes": 17_179_869_184}
    files = [
        written(tmp_path, rank, record(rank, 1407, 61_974, ranks=8, **line)) for rank in range(8)
    ]
    run = imported(files, tmp_path / "run")
    (operation,) = measure_bandwidth(run).operations.to_pylist()
    assert (operation["group"], operation["n"], operation["op"]) == ("dp:0-7", 8, "all_reduce")
    assert operation["algbw_seen"] == pytest.approx(277.210914, rel=1e-7)
    assert operation["busbw_seen"] == pytest.approx(485.119099, rel=1e-7)
    assert violations(run) == []


@pytest.mark.parametrize(
    ("name", "op", "shares"),
    [
        ("AllReduce", "all_reduce", 1),
        ("AllGather", "all_gather", 2),
        ("ReduceScatter", "reduce_scatter", 2),
        ("Broadcast", "broadcast", 1),
        ("All2All", "all_to_all", 2),
    ],
)
def test_nccl_tests_counts_all_shares(tmp_path: Path, name: str, op: str, shares: int) -> None:
    run = imported([written(tmp_path, 0, record(0, 0, 5, coll=name))], tmp_path / "run")
    (call,) = calls(run.path, 0)
    assert (call["name"], call["bytes"]) == (op, shares * 1_000_000)


def test_what_has_no_times_is_laid_out_from_its_end(tmp_path: Path) -> None:
    # Rank 0 took 4 and 6 µs, rank 1 took 3 and 6: the second all_reduce ends when it was written,
    # the first when the second begins, on both ranks; rank 1 came 1 µs after rank 0 to it.
    files = [
        written(tmp_path, 0, record(0, 0, 4), record(0, 1, 6)),
        written(tmp_path, 1, record(1, 0, 3), record(1, 1, 6)),
    ]
    run = imported(files, tmp_path / "run")
    spans = [
        [(row["start"], row["duration"]) for row in rows(run.path, rank, kind="collective")]
        for rank in (0, 1)
    ]
    assert spans == [
        [(0, 0), (0, 4_000), (4_000, 0), (4_000, 6_000)],
        [(1_000, 0), (1_000, 3_000), (4_000, 0), (4_000, 6_000)],
    ]
    first, _ = measure_bandwidth(run).operations.sort_by("start").to_pylist()
    assert (first["skew_ns"], first["transfer_ns"], first["culprit_rank"]) == (1_000, 3_000, 1)
    assert "places are laid out" in lacks(run)
    assert run.clock.method == "one clock"


def test_verbose_records_have_their_own_times(tmp_path: Path) -> None:
    def line(rank: int, at: int) -> dict[str, Any]:
        channels = [
            {"channel_id": n, "kernel_start_ts": NOW + at + n, "kernel_stop_ts": NOW + at + 40}
            for n in range(2)
        ]
        times = {"coll_start_ts": NOW + at - 10, "coll_stop_ts": NOW + at - 8}
        return record(rank, 0, 35, event_trace_ts={**times, "kernel_events": channels})

    files = [written(tmp_path, rank, line(rank, 100 + 5 * rank)) for rank in (0, 1)]
    run = imported(files, tmp_path / "run")
    found = rows(run.path, 1, kind="collective")
    assert [(row["start"], row["duration"]) for row in found] == [(-5_000, 0), (5_000, 35_000)]
    assert "the CPU noticed its kernel" in lacks(run)
    (operation,) = measure_bandwidth(run).operations.to_pylist()
    assert (operation["skew_ns"], operation["culprit_rank"]) == (5_000, 1)


def test_from_format_4_3_on_a_marker_says_whose_records_follow(tmp_path: Path) -> None:
    whole = record(0, 7, 5, version="v4.3", ranks=1)
    marker = {key: whole[key] for key in ("header", "metadata")}
    marker["dump_stats"] = {
        "coll_records": 2,
        "coll_dropped_total": 12,
        "p2p_records": 0,
        "p2p_dropped_total": 0,
        "proxy_records": 1,
    }
    bare = {"coll_perf": whole["coll_perf"]}
    proxy = {"proxy_trace": {"record_type": "proxy_op"}}
    path = written(
        tmp_path, 0, bare, marker, bare, proxy, {"coll_perf": bare["coll_perf"] | {"coll_sn": 8}}
    )
    run = imported([path], tmp_path / "run")
    assert [call["seq"] // 64 for call in calls(run.path, 0)] == [7, 8]
    assert run.meta.versions["nccl inspector"] == "v4.3"
    assert run.facts[0].dropped == 12
    for part in ("12 operations that the Inspector", "1 records of NCCL's proxy", "of 1 records"):
        assert part in lacks(run)


def test_messages_are_paired_if_none_is_missing(tmp_path: Path) -> None:
    def files(first: int) -> list[Path]:
        return [
            written(tmp_path, 0, message(0, "Send", 1, 1, 9), message(0, "Recv", 2, 1, 9)),
            written(
                tmp_path, 1, message(1, "Recv", first, 0, 9), message(1, "Send", first + 1, 0, 9)
            ),
        ]

    run = imported(files(1), tmp_path / "run")
    assert [(c["kind"], c["peer"], c["seq"], c["bytes"]) for c in calls(run.path, 0)] == [
        ("send", 1, 0, 64_000),
        ("recv", 1, 0, 64_000),
    ]
    run = imported(files(2), tmp_path / "run")
    assert [c["seq"] for c in calls(run.path, 1)] == [None, None]


def test_global_ranks_come_from_the_communicator_of_all(tmp_path: Path) -> None:
    files = []
    for rank in range(4):
        world = record(rank, 0, 5, ranks=4)
        world["header"] |= {"id": "0x1", "comm_name": "default_pg"}
        pair = record(rank % 2, 0, 5)
        pair["header"] |= {"id": f"0x{2 + rank // 2}", "comm_name": "mesh_tp"}
        for line in (world, pair):
            line["metadata"]["pid"] = 9000 - rank  # pids tell nothing
        files.append(written(tmp_path, rank, world, pair))
    run = imported(files, tmp_path / "run")
    assert run.meta.world_size == 4
    assert [{c["group"] for c in calls(run.path, rank)} for rank in range(4)] == [
        {"world:0-3", "tp:0-1"},
        {"world:0-3", "tp:0-1"},
        {"world:0-3", "tp:2-3"},
        {"world:0-3", "tp:2-3"},
    ]


def test_a_file_that_was_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    path = written(tmp_path, 0, record(0, 0, 5, ranks=1))
    path.write_text(path.read_text() + json.dumps(record(0, 1, 5))[:-20])
    run = imported([path], tmp_path / "run")
    assert len(calls(run.path, 0)) == 1
    assert "whose process was killed" in lacks(run)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "Expecting"),
        ('["coll_perf"]', "list where an object belongs"),
        (json.dumps(record(0, -1, 5)), "-1 where a whole number from 0"),
        (json.dumps(record(0, 1, -5)), "-5 where microseconds belong"),
        (json.dumps(record(9, 1, 5)), "9 where a whole number from 0 to 1"),
        (json.dumps(record(0, 1, 5)).replace('"coll_sn"', '"sn"'), "has no 'coll_sn'"),
        ('{"coll_perf": 1e999999, "header": {}, "metadata": {}}', "has no"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = written(tmp_path, 0, record(0, 0, 5))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DamagedTrace, match=rf"pid4000\.log: line 2 is no record .*{why}"):
        imported([path], tmp_path / "run")


def test_files_without_operations_say_why(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("")
    with pytest.raises(TraceError, match="NCCL_INSPECTOR_DUMP_MIN_SIZE_BYTES"):
        imported([path], tmp_path / "run")


def test_a_folder_is_recognized_and_other_logs_are_not(tmp_path: Path) -> None:
    written(tmp_path, 0, record(0, 0, 5))
    (tmp_path / "train.log").write_text("{step 1}\n")
    found = recognized(tmp_path)
    assert found is not None
    assert (found[0].name, len(found[1])) == ("nccl", 1)
