"""torch's names of operations and element types, as its C++ writes them, for every reader alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from collectors.flight_entries import operation
from collectors.importers.formats import files_of, format_named, import_files
from collectors.torch_names import element, operation_named
from dashboard import open_run
from tests.support.kineto_toy import Toy

KINETO = format_named("kineto")
ALL_GATHER = """all_gather all_gather_single all_gather_v _all_gather_base _allgather_base
    all_gather_into_tensor_coalesced ALLGATHER_coalesced allgather_into_tensor_coalesced_"""
REDUCE_SCATTER = """reduce_scatter reduce_scatter_single reduce_scatter_v _reduce_scatter_base
    reduce_scatter_tensor_coalesced REDUCE_SCATTER_coalesced"""
OPERATIONS = {
    "all_reduce": "all_reduce allreduce_coalesced allreduce_sparse allreduce_",
    "all_gather": ALL_GATHER,
    "reduce_scatter": REDUCE_SCATTER,
    "all_to_all": "all_to_all all_to_all_single all_to_all_v_single alltoall_base_",
    "broadcast": "broadcast _broadcast_oop",
    "reduce": "reduce _reduce_oop",
    "gather": "gather",
    "scatter": "scatter",
    "barrier": "barrier all_reduce_barrier",
}
"""profilingTitle in ProcessGroupGloo.cpp and ProcessGroupNCCL.cpp, names of c10d:: operators."""


@pytest.mark.parametrize("ours", OPERATIONS)
def test_each_name_of_an_operation_is_the_same_for_every_reader(ours: str) -> None:
    for name in OPERATIONS[ours].split():
        assert {operation(f"nccl:{name}"), operation(name), operation_named(f"c10d::{name}")} == {
            ours
        }, name


def test_messages_and_what_is_unknown() -> None:
    assert operation("nccl:send 0->1") == operation_named("nccl:send 0->1") == "send"
    assert operation("nccl:recv 1<-0") == operation_named("nccl:recv 1<-0") == "recv"
    assert (operation("nccl:coalesced"), operation_named("aten::mm")) == ("coalesced", None)


def test_each_element_type_of_torch_has_its_size() -> None:
    kinds = """uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64
        bool complex64 complex128 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"""
    for name in kinds.split():
        dtype: torch.dtype = getattr(torch, name)
        assert element(dtype) == (name, dtype.itemsize)


@pytest.mark.parametrize(
    ("written", "name", "size"),
    [("UInt16", "uint16", 2), ("UInt32", "uint32", 4), ("UInt64", "uint64", 8)],
)
def test_kineto_s_unsigned_integers_have_bytes(
    tmp_path: Path, written: str, name: str, size: int
) -> None:
    (tmp_path / "traces").mkdir()
    for rank in (0, 1):
        toy = Toy(rank, 2)
        toy.step(0, 1000, 100)
        toy.nccl("allreduce", 1010, 1020, 5, dtype=written)
        toy.write(tmp_path / "traces" / f"rank{rank}.json")
    import_files(KINETO, files_of(KINETO, [tmp_path / "traces"]), tmp_path / "run")

    events = open_run(tmp_path / "run").events(
        columns=("dtype", "bytes", "count"), kinds=["collective"]
    )
    found = {(row["dtype"], row["bytes"], row["count"]) for row in events.to_pylist()}
    assert found == {(name, 1000 * size, 1000)}
