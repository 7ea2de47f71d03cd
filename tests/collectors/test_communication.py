"""Every operation once, with the payload that nccl-tests counts, whatever way it is called."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch import Tensor
from torch.distributed import all_gather_object as object_imported_before
from torch.distributed import all_reduce as imported_before
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from collectors.live.communication import Communication
from collectors.live.operations import Operations
from tests.support.reading import calls, facts, meta, rows
from tests.witness.dispatch_witness import Seen, Witness
from tracer import Recorder, Tracer
from tracer.schema import Kind
from tracer.topology import Topology

Group = dist.ProcessGroup
Case = tuple[str, Callable[[Group], object], str, int, str]


def _ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(*shape, dtype=dtype)


CASES: list[Case] = [
    ("all_reduce", lambda g: dist.all_reduce(_ones(6)), "all_reduce", 24, "float32"),
    ("imported before", lambda g: imported_before(_ones(6)), "all_reduce", 24, "float32"),
    (
        "asynchronous",
        lambda g: dist.all_reduce(_ones(6), async_op=True).wait(),
        "all_reduce",
        24,
        "float32",
    ),
    (
        "half precision",
        lambda g: dist.all_reduce(_ones(6, dtype=torch.bfloat16)),
        "all_reduce",
        12,
        "bfloat16",
    ),
    ("broadcast", lambda g: dist.broadcast(_ones(3, 2), 0), "broadcast", 24, "float32"),
    ("reduce", lambda g: dist.reduce(_ones(5), 0), "reduce", 20, "float32"),
    (
        "all_gather of a list",
        lambda g: dist.all_gather([_ones(4)], _ones(4)),
        "all_gather",
        16,
        "float32",
    ),
    (
        "all_gather into a tensor",
        lambda g: dist.all_gather_into_tensor(_ones(4), _ones(4)),
        "all_gather",
        16,
        "float32",
    ),
    (
        "reduce_scatter",
        lambda g: dist.reduce_scatter_tensor(_ones(4), _ones(4)),
        "reduce_scatter",
        16,
        "float32",
    ),
    (
        "all_to_all",
        lambda g: dist.all_to_all_single(_ones(4), _ones(4)),
        "all_to_all",
        16,
        "float32",
    ),
    ("gather", lambda g: dist.gather(_ones(4), [_ones(4)]), "gather", 16, "float32"),
    ("scatter", lambda g: dist.scatter(_ones(4), [_ones(4)]), "scatter", 16, "float32"),
    ("barrier", lambda g: dist.barrier(), "barrier", 0, ""),
    (
        "functional all_reduce",
        lambda g: functional.all_reduce(_ones(6), "sum", g).sum(),
        "all_reduce",
        24,
        "float32",
    ),
    (
        "functional all_gather",
        lambda g: functional.all_gather_tensor(_ones(6), 0, g).sum(),
        "all_gather",
        24,
        "float32",
    ),
    (
        "functional reduce_scatter",
        lambda g: functional.reduce_scatter_tensor(_ones(6), "sum", 0, g).sum(),
        "reduce_scatter",
        24,
        "float32",
    ),
    (
        "functional all_to_all",
        lambda g: functional.all_to_all_single(_ones(6), [6], [6], g).sum(),
        "all_to_all",
        24,
        "float32",
    ),
    (
        "functional broadcast",
        lambda g: functional.broadcast(_ones(6), 0, g).sum(),
        "broadcast",
        24,
        "float32",
    ),
    (
        "functional, coalesced",
        lambda g: [
            part.sum() for part in functional.all_reduce_coalesced([_ones(6), _ones(2)], "sum", g)
        ],
        "all_reduce",
        32,
        "float32",
    ),
    (
        "coalescing manager",
        lambda g: _coalesced(),
        "all_reduce",
        40,
        "float32",
    ),
    (
        "functional, in place",
        lambda g: functional.all_reduce_inplace(_ones(6), "sum", g),
        "all_reduce",
        24,
        "float32",
    ),
]


def _coalesced() -> None:
    with dist.distributed_c10d._coalescing_manager():
        dist.all_reduce(_ones(6))
        dist.all_reduce(_ones(4))


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_an_operation_is_recorded_once_with_its_payload(
    tmp_path: Path, group: Group, case: Case
) -> None:
    _, call, op, size, dtype = case
    with Tracer(tmp_path / "run") as t:
        call(group)
    (row,) = calls(tmp_path / "run", 0)
    width = {"float32": 4, "bfloat16": 2}.get(dtype, 1)

    assert t.recorder.failure is None
    assert (row["kind"], row["name"], row["group"]) == ("collective", op, "world:0")
    assert (row["bytes"], row["count"], row["dtype"]) == (size, size // width, dtype or None)
    assert (row["seq"], row["step"]) == (0, 0)
    waits = rows(tmp_path / "run", 0, kind="wait")
    assert [wait["correlation"] for wait in waits] == [row["correlation"]]


def test_the_hooks_see_what_an_independent_witness_sees(tmp_path: Path, group: Group) -> None:
    with Tracer(tmp_path / "run"), Witness() as witness:
        for _, call, *_ in CASES:
            call(group)
    recorded = Counter(
        Seen(row["name"], (0,), row["count"], row["dtype"] or "", None)
        for row in calls(tmp_path / "run", 0)
    )

    assert recorded == witness.seen


OBJECTS: dict[str, Callable[[], object]] = {
    "all_gather_object": lambda: dist.all_gather_object([None], {"a": 1}),
    "imported before": lambda: object_imported_before([None], {"a": 1}),
    "broadcast_object_list": lambda: dist.broadcast_object_list([{"a": 1}], 0),
    "gather_object": lambda: dist.gather_object({"a": 1}, [None]),
    "scatter_object_list": lambda: dist.scatter_object_list([None], [{"a": 1}], 0),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_a_collective_of_objects_is_one_event(tmp_path: Path, group: Group, name: str) -> None:
    with Tracer(tmp_path / "run"), Witness() as witness:
        dist.all_reduce(_ones(2))
        OBJECTS[name]()
        dist.all_reduce(_ones(2))
    before, row, after = rows(tmp_path / "run", 0, kind="collective")
    sizes = {"int64": 8, "uint8": 1, "": 0}
    parts = [s for s in witness.seen.elements() if s.dtype != "float32"]

    assert row["name"] == ("all_gather_object" if name == "imported before" else name)
    assert row["bytes"] == sum(s.elements * sizes[s.dtype] for s in parts) > 8
    assert (before["seq"], row["seq"], after["seq"]) == (0, 1, 2)
    assert row["duration"] > 0


def test_the_functions_for_objects_are_put_back_everywhere(tmp_path: Path, group: Group) -> None:
    before = dist.all_gather_object, object_imported_before
    with Tracer(tmp_path / "run"):
        assert dist.all_gather_object is not before[0]
    assert (dist.all_gather_object, object_imported_before) == before


class _Proxy:
    """As an object may be that stands for another one, which is not there yet."""

    def __hash__(self) -> int:
        raise RuntimeError("there is nothing yet")

    __eq__ = None  # type: ignore[assignment]


def test_strangers_objects_are_not_asked_while_hooks_go_in(
    tmp_path: Path, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "request", _Proxy(), raising=False)
    with Tracer(tmp_path / "run") as t:
        OBJECTS["all_gather_object"]()
    assert t.recorder.failure is None
    assert [row["name"] for row in calls(tmp_path / "run", 0)] == ["all_gather_object"]


def test_numbers_count_the_operations_of_a_group(tmp_path: Path, group: Group) -> None:
    other = dist.new_group([0], group_desc="mesh_tp")
    with Tracer(tmp_path / "run"):
        for on in (group, other, group, group, other):
            dist.all_reduce(_ones(2), group=on)

    assert [(row["group"], row["seq"]) for row in calls(tmp_path / "run", 0)] == [
        ("world:0", 0),
        ("tp:0", 0),
        ("world:0", 1),
        ("world:0", 2),
        ("tp:0", 1),
    ]
    assert set(facts(tmp_path / "run", 0)["groups"]) == {"world:0", "tp:0"}


def test_only_the_first_wait_counts_and_an_unknown_work_is_none_of_ours(
    tmp_path: Path, group: Group
) -> None:
    before = dist.all_reduce(_ones(2), async_op=True)
    with Tracer(tmp_path / "run"):
        before.wait()
        work = dist.all_reduce(_ones(2), async_op=True)
        work.wait()
        work.wait()

    assert len(calls(tmp_path / "run", 0)) == 1
    assert len(rows(tmp_path / "run", 0, kind="wait")) == 1


def test_an_operation_that_raises_passes_its_error_on_and_is_not_recorded(
    tmp_path: Path, group: Group
) -> None:
    with Tracer(tmp_path / "run") as t:
        with pytest.raises(RuntimeError, match="invalid tensor size"):
            dist.all_gather_into_tensor(_ones(7), _ones(4))
        dist.all_reduce(_ones(2))

    assert t.recorder.failure is None
    assert [row["name"] for row in calls(tmp_path / "run", 0)] == ["all_reduce"]


def test_nothing_is_communicated_without_data(tmp_path: Path, group: Group) -> None:
    with Tracer(tmp_path / "run") as t:
        functional.all_reduce(torch.ones(4, device="meta"), "sum", group)

    assert t.recorder.failure is None
    assert calls(tmp_path / "run", 0) == []


def test_results_are_those_of_torch(tmp_path: Path, group: Group) -> None:
    with Tracer(tmp_path / "run"):
        gathered = functional.all_gather_tensor(torch.arange(6.0), 0, group)
        tensor = torch.arange(6.0)
        assert dist.all_reduce(tensor) is None
        assert isinstance(dist.all_reduce(tensor, async_op=True), dist.Work)

    assert torch.equal(gathered, torch.arange(6.0))
    assert torch.equal(tensor, torch.arange(6.0))


def test_a_hook_that_fails_inside_never_reaches_the_caller(
    tmp_path: Path, group: Group, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def broken(*unused: Any) -> Any:
        raise RuntimeError("our own fault")

    monkeypatch.setattr(Operations, "collective", broken)
    with Tracer(tmp_path / "run"):
        dist.all_reduce(_ones(2))
        functional.all_reduce(_ones(2), "sum", group).sum()

    assert facts(tmp_path / "run", 0)["ended"] == "failed: RuntimeError: our own fault"
    assert capsys.readouterr().err.count("rankscope:") == 1


@pytest.mark.parametrize("when", ["while recording", "before, and passed on"])
def test_a_mesh_reaches_the_run(tmp_path: Path, group: Group, when: str) -> None:
    def build() -> DeviceMesh:
        return init_device_mesh("cpu", (1, 1), mesh_dim_names=("pp", "tp"))

    given = build() if when != "while recording" else None
    with Tracer(tmp_path / "run", mesh=given):
        if given is None:
            build()

    assert meta(tmp_path / "run")["mesh"] == {
        "names": ["pp", "tp"],
        "shape": [1, 1],
        "coordinates": {"0": [0, 0]},
    }
    assert facts(tmp_path / "run", 0)["coordinates"] == {"pp": 0, "tp": 0}


class _Handle:
    """Stands for the Work of a batch of operations."""


def test_one_wait_stands_for_all_operations_of_a_batch(group: Group) -> None:
    """What NCCL does with batch_isend_irecv: operations are collected, one Work ends them all."""
    recorder, work = Recorder(), _Handle()
    recorder.active = True
    operations = Operations(recorder, Topology(rank=0, world_size=1))
    operations.open_batch(group)
    for start in (10, 20):
        operations.collective(0, group, torch.ones(2), 1, start, start + 1)
    operations.close_batch(group, work)  # type: ignore[arg-type]
    for pending in operations.works.pop(id(work)):
        recorder.emit_operation(Kind.WAIT, 30, 5, pending)
    seen = [
        (int(r["kind"]), int(r["start"]), int(r["duration"]), int(r["seq"]))
        for records in recorder.drain()
        for r in records
    ]

    assert seen == [
        (Kind.COLLECTIVE, 10, 1, 0),
        (Kind.COLLECTIVE, 20, 1, 1),
        (Kind.WAIT, 30, 5, 0),
        (Kind.WAIT, 30, 5, 1),
    ]


def test_the_collector_says_what_it_covers() -> None:
    assert "DTensor" in Communication.covers
