"""Exports of Nsight Systems. No real one was at hand: tests/support/nsys_export.py stands in."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from collectors.importers.formats import format_named, import_files, recognized
from collectors.importers.labels import Label, label_of
from dashboard import open_run
from dashboard.analysis.communication.bandwidth import measure_bandwidth
from dashboard.analysis.time_spent.accounting import account
from dashboard.analysis.whole_run.integrity import violations
from dashboard.run import Run
from tests.support.nsys_export import EPOCH, Export, Process
from tests.support.reading import calls, rows
from tracer.errors import DamagedTrace, UsageError

REDUCE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"


def step(process: Process, begin: int, late: int = 0, communicator: int = 0xABC) -> None:
    """One step of 100 µs: forward, backward on torch's autograd thread, all_reduce, optimizer.

    begin + (host)  10 forward 20   20 backward 40      45 all_reduce 50      60 optimizer 70
            (device) 12-22 gemm     25-45 gemm_backward 50-70 all_reduce+late 75-85 adam
    """
    process.range("step", begin, begin + 90)
    process.range("forward", begin + 10, begin + 20)
    process.kernel("gemm", begin + 11, begin + 12, begin + 22)
    process.range("backward", begin + 20, begin + 40)
    autograd = process.number | (process.pid + 1)
    process.kernel("gemm_backward", begin + 21, begin + 25, begin + 45, thread=autograd)
    process.calls("ncclAllReduce", begin + 45, begin + 48, communicator, 4_000)
    process.kernel(REDUCE, begin + 49, begin + 50 + late, begin + 70, stream=9)  # in GroupEnd
    process.range("Optimizer.step#AdamW.step", begin + 60, begin + 70)
    process.kernel("adam", begin + 61, begin + 75, begin + 85)


def two_ranks(folder: Path) -> Path:
    """One export of one host with two processes, of two steps each."""
    path = folder / "report.sqlite"
    with Export(path) as export:
        for rank in (0, 1):
            process = Process(export, pid=4000 + 100 * rank, device=rank)
            process.thread(process.pid + 1, "pt_autograd_0")
            process.nccl_domain()
            process.joins(0xABC, rank, 2)
            for number in range(2):
                step(process, 1000 + 100 * number, late=5 * rank)
            process.range("warm thoughts", 1013, 1015)
            process.range("aten::mm, op_id = 17", 1012, 1014)
            process.copy(1002, 1003, 1006, 512)
    return path


def imported(files: list[Path], out: Path, **options: Any) -> Run:
    import_files(format_named("nsys"), files, out, overwrite=True, **options)
    return open_run(out)


def lacks(run: Run) -> str:
    assert run.meta.source is not None
    return " ".join(run.meta.source.lacks)


def test_what_a_step_becomes(tmp_path: Path) -> None:
    run = imported([two_ranks(tmp_path)], tmp_path / "run")
    assert (run.ranks, run.meta.world_size, run.steps) == ((0, 1), 2, (0, 1))
    assert run.meta.versions["nsight-systems"] == "2026.1.1"
    assert run.meta.source is not None
    assert run.meta.source.epoch_ns == EPOCH + 1_000  # NCCL was initialized at 1 µs
    assert (run.facts[1].host, run.facts[1].device, run.facts[1].pid) == ("node0", "cuda:1", 4100)
    assert run.clock.method == "one clock"
    assert violations(run) == []

    def said(row: dict[str, Any]) -> tuple[Any, ...]:
        begin = (row["start"] - 999_000) / 1000
        return row["lane"], row["kind"], row["name"], begin, row["duration"] / 1000

    assert sorted(said(row) for row in rows(run.path, 0, step=0)) == sorted(
        [
            ("host:main", "step", "step", 0, 100),
            ("device:7 kernels", "kernel", "Memcpy HtoD", 3, 3),
            ("host:main", "user", "warm thoughts", 13, 2),
            ("host:main", "forward", "forward", 10, 10),
            ("device:7 kernels", "kernel", "void gemm<float>(int)", 12, 10),
            ("device:7", "forward", "forward", 12, 10),
            ("host:main operators", "kernel", "aten::mm", 12, 2),
            ("host:main", "backward", "backward", 20, 20),
            ("device:7 kernels", "kernel", "void gemm_backward<float>(int)", 25, 20),
            ("device:7", "backward", "backward", 25, 20),
            ("host:main", "collective", "all_reduce", 45, 3),
            ("device:9 kernels", "kernel", f"{REDUCE}(ncclDevKernelArgsStorage<4096>)", 50, 20),
            ("device:9 communication", "collective", "all_reduce", 50, 20),
            ("host:main", "optimizer", "Optimizer.step#AdamW.step", 60, 10),
            ("device:7 kernels", "kernel", "void adam<float>(int)", 75, 10),
            ("device:7", "optimizer", "Optimizer.step#AdamW.step", 75, 10),
        ]
    )


def test_time_accounting_by_hand(tmp_path: Path) -> None:
    # Of 100 µs: compute 10 + 20, optimizer 10, communication 20 of the all_reduce that nothing
    # hides (45-48 on the host are not device time), host-bound where the device idles and a range
    # of the host is open: 10-12 (forward), 22-25 (backward).
    run = imported([two_ranks(tmp_path)], tmp_path / "run")
    table = account(run, [0]).table.to_pylist()
    spent = {row["category"]: row["duration"] / 1000 for row in table if row["rank"] == 0}
    assert spent == {
        "compute": 30,
        "optimizer": 10,
        "comm:tp": 0,
        "comm:pp": 0,
        "comm:dp": 0,
        "comm:other": 20,
        "data": 0,
        "host": 5,
        "idle": 35,
    }


def test_the_calls_of_nccl_have_group_size_and_number(tmp_path: Path) -> None:
    run = imported([two_ranks(tmp_path)], tmp_path / "run")
    for rank in (0, 1):
        assert [(c["group"], c["seq"], c["bytes"], c["step"]) for c in calls(run.path, rank)] == [
            ("world:0-1", 0, 4_000, 0),
            ("world:0-1", 1, 4_000, 1),
        ]


def test_a_rank_arrives_when_its_kernel_begins(tmp_path: Path) -> None:
    # Rank 1's kernels begin 5 µs after rank 0's, at 55, and both end at 70: the link took 15 µs
    # for 4,000 bytes, busbw = 4000 B / 15 µs × 2·(2−1)/2.
    run = imported([two_ranks(tmp_path)], tmp_path / "run")
    operations = measure_bandwidth(run).operations.to_pylist()
    assert [(o["skew_ns"], o["transfer_ns"], o["culprit_rank"]) for o in operations] == [
        (5_000, 15_000, 1)
    ] * 2
    assert operations[0]["busbw_skew_free"] == pytest.approx(4_000 / 15_000)


def test_shares_and_messages(tmp_path: Path) -> None:
    path = tmp_path / "report.sqlite"
    with Export(path) as export:
        for rank in (0, 1):
            process = Process(export, 10 + rank, rank)
            process.nccl_domain()
            process.joins(7, rank, 2)
            process.calls("ncclAllGather", 10, 11, 7, 100)
            process.kernel("ncclDevKernel_AllGather_RING_LL", 12, 20, 30)
            process.calls("ncclSend", 40, 41, 7, 64, peer=1 - rank)
            process.calls("ncclRecv", 41, 42, 7, 64, peer=1 - rank)
            process.kernel("ncclDevKernel_SendRecv", 43, 50, 60)
    run = imported([path], tmp_path / "run")
    gather, send, recv = calls(run.path, 0)
    assert (gather["name"], gather["bytes"]) == ("all_gather", 200)  # nccl-tests counts both shares
    assert (send["kind"], send["peer"], send["seq"], send["bytes"]) == ("send", 1, 0, 64)
    assert (recv["kind"], recv["peer"], recv["seq"], recv["bytes"]) == ("recv", 1, 0, 64)
    transfers = rows(run.path, 0, lane="device:7 communication")
    assert [(t["name"], t["duration"]) for t in transfers] == [
        ("all_gather", 10_000),
        ("send", 10_000),
        ("recv", 10_000),
    ]
    assert [t["correlation"] for t in transfers] == [c["correlation"] for c in (gather, send, recv)]
    assert violations(run) == []
    assert "whole recording of each rank is taken as step 0" in lacks(run)


def test_a_pipeline_s_actions_are_spans_on_the_device(tmp_path: Path) -> None:
    path = tmp_path / "report.sqlite"
    with Export(path) as export:
        process = Process(export, 10, 0)
        process.range("step 5", 0, 100)
        process.range("PP:0F3", 10, 20)
        process.kernel("a", 11, 12, 15)
        process.kernel("b", 12, 18, 22)
        process.range("PP:0B3", 30, 40)
        process.kernel("c", 31, 33, 50)
    run = imported([path], tmp_path / "run")
    assert run.steps == (5,)
    spans = rows(run.path, 0, lane="device:7")
    assert [
        (s["kind"], s["stage"], s["microbatch"], s["duration"] // 1000, s["step"]) for s in spans
    ] == [("forward", 0, 3, 10, 5), ("backward", 0, 3, 17, 5)]


def test_kernels_without_ranges_count_as_forward_or_backward(tmp_path: Path) -> None:
    path = tmp_path / "report.sqlite"
    with Export(path) as export:
        process = Process(export, 10, 0)
        autograd = process.thread(12, "pt_autograd_0")
        process.kernel("a", 1, 2, 4)
        process.kernel("b", 5, 6, 9, thread=autograd)
        process.kernel(REDUCE, 10, 11, 15, stream=9)
    run = imported([path], tmp_path / "run")
    work = rows(run.path, 0, lane="device:7")
    assert [(w["kind"], w["name"], w["duration"]) for w in work] == [
        ("forward", "unlabelled kernels", 2_000),
        ("backward", "unlabelled kernels", 3_000),
    ]
    (call,) = calls(run.path, 0)
    assert (call["name"], call["group"], call["bytes"]) == ("all_reduce", None, None)
    assert "of 1 kernels of NCCL the call" in lacks(run)


def test_a_range_of_no_length_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.sqlite"
    with Export(path) as export:
        process = Process(export, 10, 0)
        process.range("backward", 1, 1)
        process.kernel("a", 2, 3, 5)
    run = imported([path], tmp_path / "run")
    (work,) = rows(run.path, 0, lane="device:7")
    assert (work["kind"], work["name"]) == ("forward", "unlabelled kernels")


@pytest.mark.parametrize("names", [("a_rank1", "a_rank0"), ("profile.1", "profile.0")])
def test_ranks_come_from_the_names_of_files(tmp_path: Path, names: tuple[str, str]) -> None:
    files = []
    for rank, name in zip((1, 0), names, strict=True):
        files.append(tmp_path / f"{name}.sqlite")
        with Export(files[-1], host=f"node{rank}") as export:
            Process(export, 10, 0).kernel(f"of rank {rank}", 1, 2, 3)
    run = imported(files, tmp_path / "run")
    for rank in (0, 1):
        (kernel,) = rows(run.path, rank, kind="kernel")
        assert kernel["name"] == f"void of rank {rank}<float>(int)"


def test_hosts_are_aligned_by_the_ends_of_collectives(tmp_path: Path) -> None:
    # Both hosts take the step at the same time, but the second one's clock is 3 s ahead.
    files = []
    for rank in (0, 1):
        files.append(tmp_path / f"rank{rank}.sqlite")
        with Export(files[-1], host=f"node{rank}", epoch=EPOCH + 3 * 10**9 * rank) as export:
            process = Process(export, 10, 0)
            process.nccl_domain()
            process.joins(7, rank, 2)
            for number in range(20):
                step(process, 1000 + 100 * number, late=5 * rank, communicator=7)
    run = imported(files, tmp_path / "run")
    assert run.clock.method == "ends of collectives"
    assert run.clock.bound_ns is not None
    assert run.clock.bound_ns < 30_000
    begun = [
        run.events(ranks=[rank], kinds=("step",), columns=("start",))["start"].to_numpy()
        for rank in (0, 1)
    ]
    assert abs(begun[0] - begun[1]).max() <= run.clock.bound_ns


def test_streams_of_two_devices_are_two_lanes(tmp_path: Path) -> None:
    path = tmp_path / "report.sqlite"
    with Export(path) as export:
        for device in (0, 1):
            Process(export, 10, device).kernel("gemm", 1, 2 + device, 9)
    run = imported([path], tmp_path / "run")
    assert {row["lane"] for row in rows(run.path, 0, kind="kernel")} == {
        "device:0.7 kernels",
        "device:1.7 kernels",
    }


def test_replays_of_graphs_that_were_recorded_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.sqlite"
    with Export(path) as export:
        process = Process(export, 10, 0)
        process.kernel("before", 1, 2, 3)
        process.range("forward", 10, 20)
        export.connection.execute(
            "CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE (start INT, end INT, deviceId INT, "
            "contextId INT, streamId INT, correlationId INT, globalPid INT, graphId INT)"
        )
        export.insert(
            "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
            start=12_000,
            end=19_000,
            deviceId=0,
            streamId=7,
            correlationId=process._launch(11, "cudaGraphLaunch_v10000", None),
            globalPid=process.number,
        )
    run = imported([path], tmp_path / "run")
    (replay,) = rows(run.path, 0, name="CUDA graph")
    assert (replay["lane"], replay["kind"], replay["duration"]) == (
        "device:7 kernels",
        "kernel",
        7_000,
    )
    work = [(w["kind"], w["duration"]) for w in rows(run.path, 0, lane="device:7")]
    assert work == [("forward", 1_000), ("forward", 7_000)]


def test_steps_by_an_expression_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "report.sqlite"
    with Export(path) as export:
        process = Process(export, 10, 0)
        for number in (7, 8):
            process.range(f"batch <{number}>", 10 * number, 10 * number + 4)
            process.kernel("a", 10 * number + 1, 10 * number + 2, 10 * number + 3)
    assert imported([path], tmp_path / "run", step_range=r"batch <(\d+)>").steps == (7, 8)
    with pytest.raises(UsageError, match="not a regular expression"):
        imported([path], tmp_path / "run", step_range="(")


def test_columns_and_tables_that_a_version_lacks(tmp_path: Path) -> None:
    path = tmp_path / "report.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT);"
            "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INT, end INT, demangledName INT);"
            "INSERT INTO StringIds VALUES (1, 'gemm');"
            "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (1000, 3000, 1), (NULL, 3, 1);"
        )
    connection.close()
    run = imported([path], tmp_path / "run")
    (kernel,) = rows(run.path, 0, kind="kernel")
    assert (kernel["name"], kernel["duration"]) == ("gemm", 2_000)

    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL;"
            "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INT, name TEXT);"
        )
    connection.close()
    with pytest.raises(DamagedTrace, match="CUPTI_ACTIVITY_KIND_KERNEL has no column end"):
        imported([path], tmp_path / "run")


def test_what_is_no_export_is_refused_with_the_mend(tmp_path: Path) -> None:
    report = tmp_path / "a.nsys-rep"
    report.write_bytes(b"\x00" * 100)
    with pytest.raises(UsageError, match=r"export it first: nsys export --type sqlite a\.nsys-rep"):
        imported([report], tmp_path / "run")
    other = tmp_path / "b.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE moz_places (id INT)")
    connection.close()
    with pytest.raises(DamagedTrace, match=r"neither kernels nor NVTX ranges \(tables: moz_places"):
        imported([other], tmp_path / "run")
    assert recognized(other) is None


def test_views_and_virtual_tables_are_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "report.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS WITH RECURSIVE n(start) AS "
            "(SELECT 1 UNION ALL SELECT start + 1 FROM n) SELECT start, start AS end FROM n;"
            "CREATE TABLE NVTX_EVENTS (start INT, end INT, text TEXT);"
            "INSERT INTO NVTX_EVENTS VALUES (1000, 2000, 'mine');"
        )
    connection.close()
    run = imported([path], tmp_path / "run")
    assert [row["name"] for row in rows(run.path, 0, kind="user")] == ["mine"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("PP:1W2", Label("backward_weight", 1, 2)),
        ("Forward 3", Label("forward", None, 3)),
        ("loss.backward", Label("backward")),
        ("DeepSpeedEngine.step", Label("optimizer")),
        ("Optimizer.step#SGD.step", Label("optimizer")),
        ("dataloader", Label("data")),
        ("forwarding", None),
        ("aten::mm", None),
    ],
)
def test_labels(name: str, label: Label | None) -> None:
    assert label_of(name) == label
