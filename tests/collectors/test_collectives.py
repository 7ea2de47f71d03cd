"""The short way of a plain collective records what the general one does, and ends in time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from threading import Thread, get_ident
from typing import Any
from unittest.mock import Mock, call

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.distributed as dist

from collectors.live.collectives import collective_hook
from collectors.live.operations import Operations
from tracer import Recorder
from tracer.rings import NONE, Operation
from tracer.schema import Kind
from tracer.topology import Topology

Group = dist.ProcessGroup
Call = Callable[..., Any]


class _Handle:
    """Stands for the Work of a collective."""


@pytest.fixture
def operations() -> Operations:
    recorder = Recorder()
    recorder.active = True
    return Operations(recorder, Topology(rank=0, world_size=1))


def _hook(operations: Operations, op: str = "all_reduce", result: object = None) -> Call:
    hooked: Call = collective_hook(operations, op, 0)(lambda *args, **kwargs: result)
    return hooked


def _recorded(operations: Operations) -> list[tuple[str, str, int, int, int, str]]:
    """Name, group, seq, bytes, elements and element type of every record."""
    recorder = operations.recorder
    dtypes = [*recorder.dtypes.words, ""]  # null is -1
    return [
        (
            recorder.names.words[r["name"]],
            recorder.groups.words[r["group"]],
            int(r["seq"]),
            int(r["bytes"]),
            int(r["count"]),
            dtypes[r["dtype"]],
        )
        for records in recorder.drain()
        for r in records
    ]


def _various(hook: Call, group: Group) -> None:
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    hook(group, [torch.ones(4)], None)
    hook(group, [torch.ones(4)])
    hook(group, torch.ones(5))
    hook(group, [half])
    hook(group, [half])
    hook(group, [torch.ones(3), half])
    hook(group, [[torch.ones(3)]])
    hook(group, [torch.nn.Parameter(torch.ones(7))])
    hook(group, tensors=[torch.ones(2)])
    hook(group, [torch.ones(2)], opts=None)
    hook(group, [torch.empty(0)])


def _all_fields(group: Group) -> tuple[npt.NDArray[np.void], list[Any], Operations]:
    """The records of various collectives, and what the device is told of them: on a clock that
    counts in sevens, and in a ring of two records.
    """
    recorder = Recorder(clock=count(100, 7).__next__, ring_capacity=2)
    recorder.active, recorder.step, recorder.stage, recorder.microbatch = True, 5, 2, 3
    recorder.device = device = Mock()
    device.mark.side_effect = count(50).__next__
    operations = Operations(recorder, Topology(rank=0, world_size=1))
    hook = _hook(operations, result=_Handle())
    records: list[npt.NDArray[np.void]] = []

    def hook_and_drain(*args: Any, **kwargs: Any) -> None:
        hook(*args, **kwargs)
        records.extend(recorder.drain())

    _various(hook_and_drain, group)
    assert recorder.failure is None
    return np.concatenate(records), device.mock_calls, operations


def test_what_is_recorded_is_the_same_on_both_ways(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, told, operations = _all_fields(group)
    assert list(operations.plain) == [id(group)]
    monkeypatch.setattr(Operations, "note_plain", lambda self, group: None)
    general, told_in_general, operations = _all_fields(group)
    assert operations.plain == {}

    assert short.tolist() == general.tolist()
    assert told == told_in_general
    assert len(short) == 11
    assert len(told) == 2 * len(short)
    assert dict(zip(short.dtype.names or (), short[3].tolist(), strict=True)) == {
        **{"start": 142, "duration": 7, "step": 5, "lane": 0, "kind": Kind.COLLECTIVE},
        **{"is_operation": 1, "name": 0, "stage": 2, "microbatch": 3, "group": 0, "seq": 3},
        **{"bytes": 12, "count": 6, "correlation": 4, "flops": NONE, "peer": NONE, "dtype": 1},
    }
    assert told[6:8] == [call.mark(), call.issued(53, Kind.COLLECTIVE, short[3].tobytes()[24:])]


def test_what_is_counted_of_various_tensors(operations: Operations, group: Group) -> None:
    _various(_hook(operations), group)

    assert _recorded(operations)[:5] == [
        ("all_reduce", "world:0", 0, 16, 4, "float32"),
        ("all_reduce", "world:0", 1, 16, 4, "float32"),
        ("all_reduce", "world:0", 2, 20, 5, "float32"),
        ("all_reduce", "world:0", 3, 12, 6, "bfloat16"),
        ("all_reduce", "world:0", 4, 12, 6, "bfloat16"),
    ]


def test_the_short_way_does_not_go_the_general_one(
    operations: Operations, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = _hook(operations)
    hook(group, [torch.ones(4)])
    monkeypatch.setattr(Operations, "collective", None)
    hook(group, [torch.ones(4)])

    assert operations.recorder.failure is None
    assert [row[2] for row in _recorded(operations)] == [0, 1]


def test_a_thread_may_begin_with_the_short_way(operations: Operations, group: Group) -> None:
    hook = _hook(operations)
    hook(group, [torch.ones(4)])
    thread = Thread(target=hook, args=(group, [torch.ones(4)]), name="second")
    thread.start()
    thread.join()

    assert operations.recorder.failure is None
    assert [row[2] for row in _recorded(operations)] == [0, 1]
    assert operations.recorder.lanes.words == ["host:main", "host:second"]


@pytest.mark.parametrize("op", ["gather", "scatter"])
def test_shares_are_counted_for_every_rank_again_and_again(
    operations: Operations, group: Group, op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Group, "size", lambda self: 3)
    hook = _hook(operations, op)
    for _ in range(2):
        hook(group, [torch.ones(4)])

    assert [row[3:5] for row in _recorded(operations)] == [(48, 12), (48, 12)]


def test_what_a_wait_needs_is_kept(operations: Operations, group: Group) -> None:
    handle = _Handle()
    hook = _hook(operations, result=handle)
    kept: list[Operation] = []
    for _ in range(2):
        hook(group, [torch.ones(4)])
        kept += operations.works[id(handle)]

    assert len(set(kept)) == 2


def test_a_batch_that_opens_collects(operations: Operations, group: Group) -> None:
    hook, handle = _hook(operations), _Handle()
    hook(group, [torch.ones(4)])
    operations.open_batch(group)
    for _ in range(2):
        hook(group, [torch.ones(4)])
    operations.close_batch(group, handle)  # type: ignore[arg-type]
    for _ in range(2):
        hook(group, [torch.ones(4)])

    assert len(operations.works[id(handle)]) == 2
    assert [row[2] for row in _recorded(operations)] == [0, 1, 2, 3, 4]
    assert list(operations.plain) == [id(group)]


def test_what_is_merged_is_not_recorded_by_itself(operations: Operations, group: Group) -> None:
    hook = _hook(operations)
    hook(group, [torch.ones(4)])
    parts = operations.merge(get_ident())
    for _ in range(2):
        hook(group, [torch.ones(4)])
    operations.merging.clear()
    hook(group, [torch.ones(4)])

    assert [(part.seq, part.bytes) for part in parts] == [(1, 16), (2, 16)]
    assert [row[2] for row in _recorded(operations)] == [0, 3]


def test_a_group_that_gets_another_name_is_recorded_under_it(group: Group) -> None:
    topology = Topology(rank=0, world_size=1)
    operations = Operations(Recorder(), topology)
    operations.recorder.active = True
    hook = _hook(operations)
    for _ in range(2):
        hook(group, [torch.ones(4)])
    topology.note_stage(0, [0])
    for _ in range(2):
        hook(group, [torch.ones(4)])

    assert [row[1:3] for row in _recorded(operations)] == [
        ("world:0", 0),
        ("world:0", 1),
        ("pp:0", 0),
        ("pp:0", 1),
    ]


def test_in_a_pause_it_is_counted_and_not_recorded(operations: Operations, group: Group) -> None:
    hook = _hook(operations)
    for paused in (False, True, False):
        operations.recorder.paused = paused
        hook(group, [torch.ones(4)])

    assert [row[2] for row in _recorded(operations)] == [0, 2]


def test_a_group_that_is_gone_is_forgotten(operations: Operations) -> None:
    class Gone:
        """Stands for a process group that nobody holds any more."""

        group_desc = "mesh_tp"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "get_process_group_ranks", lambda group: [0])
        gone = Gone()
        _hook(operations)(gone, [torch.ones(4)])
    assert list(operations.plain) == [id(gone)]
    del gone

    assert operations.plain == {}
