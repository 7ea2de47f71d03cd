"""A real GPU: device lanes, streams, graphs, NCCL with one rank, kernel windows, counters.

    pytest tests/gpu -m gpu

Every test is skipped where there is no CUDA device; docs/support.md says when they last ran.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from torch import nn

from dashboard import open_run
from tests.support.reading import facts, rows
from tracer import Tracer, Window

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

STEPS, WIDTH = 5, 4096


def _train(t: Tracer, model: nn.Module) -> list[torch.Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    torch.manual_seed(1)
    for _ in range(STEPS):
        x = torch.randn(WIDTH, WIDTH, device="cuda")
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        t.step()
    return [p.detach().cpu() for p in model.parameters()]


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)).cuda()


@pytest.fixture
def nccl() -> Iterator[dist.ProcessGroup]:
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    group = dist.group.WORLD
    assert group is not None
    yield group
    dist.destroy_process_group()


def test_work_is_on_the_device_as_often_as_on_the_host_and_later(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run") as t:
        traced = _train(t, _model())
    bare = _train(Tracer(tmp_path / "off", enabled=False), _model())

    assert all(torch.equal(a, b) for a, b in zip(bare, traced, strict=True))
    for kind in ("forward", "backward", "optimizer"):
        found = rows(tmp_path / "run", 0, kind=kind)
        host = [row for row in found if row["lane"].startswith("host:")]
        device = [row for row in found if row["lane"].startswith("device:")]
        assert len(host) == len(device) == STEPS
        for launched, ran in zip(host, device, strict=True):
            assert ran["step"] == launched["step"]
            assert ran["start"] > launched["start"] - 1_000_000
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    table = open_run(tmp_path / "run").accounting()
    assert table.share("compute") > 0.3


def test_device_spans_agree_with_cuda_events(tmp_path: Path) -> None:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    x = torch.randn(WIDTH, WIDTH, device="cuda")
    with Tracer(tmp_path / "run") as t:
        torch.cuda.synchronize()
        with t.span("multiply"):
            begin.record()
            for _ in range(50):
                x = x @ x
            end.record()
        torch.cuda.synchronize()
    (span,) = rows(tmp_path / "run", 0, name="multiply", kind="user")[1:]

    assert span["duration"] == pytest.approx(begin.elapsed_time(end) * 1e6, rel=0.02, abs=50_000)


def test_each_stream_has_a_lane(tmp_path: Path) -> None:
    other = torch.cuda.Stream()
    x = torch.randn(WIDTH, WIDTH, device="cuda")
    with Tracer(tmp_path / "run") as t:
        with t.span("here"):
            x @ x
        with torch.cuda.stream(other), t.span("there"):
            x @ x
        torch.cuda.synchronize()
    lanes = {
        row["name"]: row["lane"]
        for row in rows(tmp_path / "run", 0)
        if row["lane"].startswith("device:")
    }

    assert len({lanes["here"], lanes["there"]}) == 2


def test_a_captured_graph_works_and_is_one_marker(tmp_path: Path) -> None:
    x = torch.ones(8, device="cuda")
    with Tracer(tmp_path / "run", flush_interval_s=0.01) as t:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(200):
                with t.span("inside"):
                    x += 1
        graph.replay()
        torch.cuda.synchronize()

    assert x.tolist() == [201.0] * 8
    assert len(rows(tmp_path / "run", 0, kind="marker")) == 1
    assert not [
        row for row in rows(tmp_path / "run", 0, name="inside") if row["lane"].startswith("device:")
    ]
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_nccl_collective_has_a_transfer(
    tmp_path: Path, nccl: dist.ProcessGroup, asynchronous: bool
) -> None:
    x = torch.ones(1 << 24, device="cuda")
    with Tracer(tmp_path / "run") as t:
        for _ in range(3):
            work = dist.all_reduce(x, async_op=asynchronous)
            if work is not None:
                work.wait()
            t.step()
        torch.cuda.synchronize()
    found = rows(tmp_path / "run", 0, kind="collective")
    host = [row for row in found if row["lane"].startswith("host:")]
    device = [row for row in found if row["lane"].startswith("device:")]

    assert [row["correlation"] for row in device] == [row["correlation"] for row in host]
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


def test_a_kernel_window_holds_kernels_inside_the_device_spans(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", kernels=Window(every=50, steps=2, first=2)) as t:
        _train(t, _model())
        torch.cuda.synchronize()
    kernels = [
        row for row in rows(tmp_path / "run", 0, kind="kernel") if row["lane"].startswith("device:")
    ]

    assert {row["step"] for row in kernels} <= {2, 3, 4}
    assert len(kernels) > 20


def test_counters_of_memory_and_of_the_card(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", flush_interval_s=0.1) as t:
        _train(t, _model())
    with pa.OSFile(str(tmp_path / "run" / "rank-00000.counters.arrows")) as source:
        table = pa.ipc.open_stream(source).read_all().to_pylist()
    found = {row["name"] for row in table}

    assert {"memory.allocated/bytes", "memory.reserved/bytes", "memory.peak/bytes"} <= found
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    assert any(name.endswith(".sm/percent") for name in found)


def test_path_and_replay_follow_the_device(tmp_path: Path) -> None:
    """The host runs ahead of the products: on the path is the device's work, not its launching."""
    with Tracer(tmp_path / "run") as t:
        _train(t, _model())
    run = open_run(tmp_path / "run")
    path = run.critical_path()
    spent = {row["category"]: 0.0 for row in path.summary.to_pylist()}
    for row in path.summary.to_pylist():
        spent[row["category"]] += row["share"]
    device = [row for row in rows(tmp_path / "run", 0) if row["lane"].startswith("device:")]
    ends: dict[int, int] = {}
    for row in device:
        ends[row["step"]] = max(ends.get(row["step"], 0), row["start"] + row["duration"])
    measured = [ends[step] - ends[step - 1] for step in range(1, STEPS)]
    assert path.steps["length_ns"].to_pylist()[1:] == pytest.approx(measured, abs=50_000)
    assert spent["compute"] + spent["optimizer"] > 0.5
    assert run.what_if().replay_error == 0
    assert path.notes == ()
