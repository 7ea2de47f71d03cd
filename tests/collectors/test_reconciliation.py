"""What no hook sees is found in the flight recorder; what that has lost is counted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch import nn
from torch.distributed import distributed_c10d
from torch.nn.parallel import DistributedDataParallel

from collectors.live import reconciliation
from collectors.live.flight_recorder import dump
from collectors.live.reconciliation import FIRST_SEQ, LANE
from tests.support.launching import run_python
from tests.support.reading import calls, facts, rows
from tracer import Kind, Tracer

Group = dist.ProcessGroup
WEIGHTS = 8 * 8 + 8
"""Elements of the linear layer below: its gradients are one bucket of the reducer."""


def _train(model: nn.Module) -> None:
    model(torch.ones(2, 8)).sum().backward()


def _summary(run: Path) -> list[tuple[Any, ...]]:
    return [(r["step"], r["name"], r["count"], r["dtype"]) for r in rows(run, 0, lane=LANE)]


def test_the_buckets_of_ddp_are_recorded_in_the_step_that_issued_them(
    tmp_path: Path, group: Group
) -> None:
    model = DistributedDataParallel(nn.Linear(8, 8))
    for _ in range(2):  # the reducer builds its buckets anew in the second backward
        _train(model)
    with Tracer(tmp_path / "run") as t:
        for _ in range(3):
            _train(model)
            dist.all_reduce(torch.ones(3))
            t.step()

    assert _summary(tmp_path / "run") == [
        (step, "all_reduce", WEIGHTS, "float32") for step in range(3)
    ]
    for row in rows(tmp_path / "run", 0, lane=LANE):
        (step,) = rows(tmp_path / "run", 0, kind="step", step=row["step"])
        assert step["start"] <= row["start"] <= step["start"] + step["duration"]
        assert (row["group"], row["bytes"], row["duration"]) == ("world:0", 4 * WEIGHTS, 0)
        assert row["seq"] >= FIRST_SEQ
    assert len({row["seq"] for row in calls(tmp_path / "run", 0)}) == 6
    assert facts(tmp_path / "run", 0)["unseen"] == 0


def test_nothing_is_found_of_a_pause_or_of_the_time_before(tmp_path: Path, group: Group) -> None:
    model = DistributedDataParallel(nn.Linear(8, 8))
    _train(model)
    with Tracer(tmp_path / "run", every=2) as t:
        with t.pause():
            _train(model)
        for _ in range(3):
            _train(model)
            t.step()

    assert [step for step, *_ in _summary(tmp_path / "run")] == [0, 2]


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code_is_recorded(tmp_path: Path, group: Group, backend: str) -> None:
    def work(x: torch.Tensor) -> torch.Tensor:
        reduced = functional.all_reduce(x * 2, "sum", group)
        return functional.all_gather_tensor(reduced + 1, 0, group).sum()

    torch._dynamo.reset()
    compiled = torch.compile(work, backend=backend)
    with Tracer(tmp_path / "run") as t:
        results = []
        for _ in range(3):
            results.append(compiled(torch.ones(8)))
            t.step()
    torch._dynamo.reset()

    assert results == [work(torch.ones(8))] * 3
    assert [(r["step"], r["name"], r["count"]) for r in calls(tmp_path / "run", 0)] == [
        (step, op, 8) for step in range(3) for op in ("all_reduce", "all_gather")
    ]


OVERRUN = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tracer import Kind, Tracer

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = DistributedDataParallel(torch.nn.Linear(8, 8))
for _ in range(2):
    model(torch.ones(2, 8)).sum().backward()
with Tracer(sys.argv[1], flush_interval_s=30) as t:
    for _ in range(40):
        model(torch.ones(2, 8)).sum().backward()
"""


@pytest.mark.parametrize(("held", "found"), [("16", 16), ("0", 0)])
def test_what_the_flight_recorder_has_lost_is_counted(
    tmp_path: Path, held: str, found: int
) -> None:
    run_python("-c", OVERRUN, tmp_path / "run", env={"TORCH_FR_BUFFER_SIZE": held})

    assert len(_summary(tmp_path / "run")) == found
    assert facts(tmp_path / "run", 0)["unseen"] == 40 - found
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


DROPPED = """
import sys, torch, torch.distributed as dist
from tracer import Kind, Tracer

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
t = Tracer(sys.argv[1], flush_interval_s=30)
t.recorder._ring_capacity = 64
with t:
    for _ in range(200):
        dist.all_reduce(torch.ones(3))
"""


def test_calls_that_the_ring_dropped_are_not_counted_as_unseen(tmp_path: Path) -> None:
    run_python("-c", DROPPED, tmp_path / "run", env={"TORCH_FR_BUFFER_SIZE": "16"})

    assert facts(tmp_path / "run", 0)["dropped"] > 100
    assert facts(tmp_path / "run", 0)["unseen"] == 0


SHORT = """
import sys, torch, torch.distributed as dist
from torch.distributed import destroy_process_group
from torch.nn.parallel import DistributedDataParallel

for _ in range(2):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model = DistributedDataParallel(torch.nn.Linear(8, 8))
    for _ in range(4):
        model(torch.ones(2, 8)).sum().backward()
    print(dist.group.WORLD._get_sequence_number_for_group())
    destroy_process_group()
"""
"""Ended long before the writer looks at its process groups for the first time."""


def test_groups_that_are_destroyed_before_the_first_flush_are_recorded(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text(SHORT)
    run = tmp_path / "run"
    done = run_python("-m", "tracer", "--out", run, tmp_path / "short.py")

    found = rows(run, 0, lane=LANE)
    assert len(found) == sum(map(int, done.stdout.split()))
    buckets = [row for row in found if (row["name"], row["count"]) == ("all_reduce", WEIGHTS)]
    assert [row["group"] for row in buckets] == ["world:0"] * 8
    assert len({row["seq"] for row in found}) == len(found)
    assert facts(run, 0)["unseen"] == 0


def test_groups_that_are_destroyed_before_the_first_flush_are_counted_where_nothing_lists_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "short.py").write_text(SHORT)
    run = tmp_path / "run"
    nothing = {"TORCH_FR_BUFFER_SIZE": "0"}
    done = run_python("-m", "tracer", "--out", run, tmp_path / "short.py", env=nothing)

    assert rows(run, 0, lane=LANE) == []
    assert facts(run, 0)["unseen"] == sum(map(int, done.stdout.split())) > 8


def test_entries_of_a_group_that_torch_does_not_name_are_counted(
    tmp_path: Path, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is when a group ends without a call of its `shutdown`."""
    model = DistributedDataParallel(nn.Linear(8, 8))
    for _ in range(2):
        _train(model)
    monkeypatch.delitem(distributed_c10d._world.pg_names, group)
    with Tracer(tmp_path / "run"):
        for _ in range(3):
            _train(model)
            dist.all_reduce(torch.ones(3))

    assert _summary(tmp_path / "run") == []
    assert facts(tmp_path / "run", 0)["unseen"] == 3


def test_calls_whose_spans_are_forgotten_are_not_found_again(
    tmp_path: Path, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "_KEPT_NS", 50_000_000)
    model = DistributedDataParallel(nn.Linear(8, 8))
    for _ in range(2):
        _train(model)
    with Tracer(tmp_path / "run", flush_interval_s=0.02) as t:
        for _ in range(40):  # 0.4 s and more, in which the counts agree and nobody looks
            dist.all_reduce(torch.ones(3))
            time.sleep(0.01)
            t.step()
        _train(model)

    assert _summary(tmp_path / "run") == [(40, "all_reduce", WEIGHTS, "float32")]


PAUSES = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from collectors.live import reconciliation
from tracer import Kind, Tracer

reconciliation._DUMP_AFTER_CALLS = 50
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = DistributedDataParallel(torch.nn.Linear(8, 8))
for _ in range(2):
    model(torch.ones(2, 8)).sum().backward()
with Tracer(sys.argv[1], flush_interval_s=0.02, every=10) as t:
    for _ in range(600):
        model(torch.ones(2, 8)).sum().backward()
        dist.all_reduce(torch.ones(3))
        t.step()
"""


def test_calls_in_pauses_do_not_hide_what_no_hook_sees(tmp_path: Path) -> None:
    """The flight recorder holds 100 of 600 steps, so that looking at the end is too late."""
    run_python("-c", PAUSES, tmp_path / "run", env={"TORCH_FR_BUFFER_SIZE": "200"})

    found = _summary(tmp_path / "run")
    assert {(name, count) for _, name, count, _ in found} == {("all_reduce", WEIGHTS)}
    assert len(found) + facts(tmp_path / "run", 0)["unseen"] >= 60


def test_a_dump_counts_payloads_as_nccl_tests_does(group: Group) -> None:
    known = {entry.record for entry in dump({})["_dump_fr_trace"]}
    gathered = torch.ones(6)
    dist.all_gather_into_tensor(gathered, torch.ones(6))
    dist.gather(torch.ones(4, dtype=torch.bfloat16), [torch.ones(4, dtype=torch.bfloat16)])
    dist.barrier()
    held = dump({group.group_name: 1})["_dump_fr_trace"]
    seen = [entry for entry in held if entry.record not in known]

    assert [(e.op, e.bytes, e.elements, e.dtype, e.is_p2p) for e in seen] == [
        ("all_gather", 24, 6, "float32", False),
        ("gather", 8, 4, "bfloat16", False),
        ("barrier", 0, 0, None, False),
    ]


def test_a_span_that_the_user_calls_a_collective_has_no_group(tmp_path: Path, group: Group) -> None:
    with Tracer(tmp_path / "run") as t, t.span("exchange", kind=Kind.COLLECTIVE):
        dist.all_reduce(torch.ones(3))

    assert {row["name"] for row in calls(tmp_path / "run", 0)} == {"exchange", "all_reduce"}
    told = facts(tmp_path / "run", 0)
    assert (told["ended"], told["unseen"]) == ("closed", 0)
