"""What the tools do not time is placed so that it contradicts nothing: properties."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collectors.importers.flight_operations import operations_of
from collectors.importers.nccl_layout import ends, key_of
from collectors.importers.nccl_records import Member, Record
from collectors.importers.nsys_nccl import Call, Kernel, carried_out


def _record(rank: int, number: int, duration: int, written: int) -> Record:
    return Record(
        member=Member("0x1", "", rank, 3, "a", rank),
        op="AllReduce",
        number=number,
        peer=None,
        bytes=8,
        duration=duration,
        is_timed_by_gpu=True,
        written=written,
        called=None,
        begun=None,
    )


@given(
    durations=st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=12),
    lost=st.tuples(*[st.integers(0, 5)] * 3),
    dumps=st.lists(st.integers(0, 11), max_size=3),
)
def test_collectives_end_together_and_kernels_follow_each_other(
    durations: list[tuple[int, int, int]], lost: tuple[int, int, int], dumps: list[int]
) -> None:
    """Three ranks do the same collectives; each rank has lost some of its oldest records."""
    records = {
        rank: [
            _record(rank, n, took[rank], 1000 + 100 * sum(n > dump for dump in dumps))
            for n, took in enumerate(durations)
            if n >= lost[rank]
        ]
        for rank in range(3)
    }
    found = ends(records)
    for of_rank in records.values():
        before = None
        for record in of_rank:
            end = found[key_of(record)]
            assert end <= record.written
            assert before is None or before <= end - record.duration
            before = end


def _raw(number: int, created: int, took: int, late: int) -> dict[str, Any]:
    end = created + took
    return {
        "record_id": number,
        "process_group": ("0", "dp"),
        "collective_seq_id": number,
        "p2p_seq_id": 0,
        "profiling_name": "nccl:all_reduce",
        "time_created_ns": created,
        "input_sizes": [(1,)],
        "output_sizes": [(1,)],
        "input_dtypes": ["Float"],
        "output_dtypes": ["Float"],
        "duration_ms": took / 1e6,
        "completed": end + late,
        "state": "completed",
        "retired": True,
        "caller": "",
        "is_p2p": False,
    }


@given(st.lists(st.tuples(*[st.integers(0, 10**9)] * 4), min_size=1, max_size=12))
def test_transfers_lie_between_their_issue_and_their_discovery(
    steps: list[tuple[int, int, int, int]],
) -> None:
    """Operations that run one after the other, each found complete some time after its end."""
    raws, free, created = [], 0, 0
    for number, (wait, ahead, took, late) in enumerate(steps):
        created += wait
        begin = max(created + ahead, free)
        free = begin + took
        raw = _raw(number, created, took, late)
        raw["completed"] = free + late
        raws.append((raw, begin))
    placed = list(operations_of([raw for raw, _ in raws], {"0": 2}))
    before = None
    for (raw, begin), operation in zip(raws, placed, strict=True):
        assert operation.place is not None
        start, duration = operation.place
        assert start >= begin - 1  # never before it began in truth
        assert start + duration <= raw["completed"] + 1
        assert before is None or before <= start + 1
        before = start + duration


@given(
    st.lists(st.tuples(st.sampled_from(["all_reduce", "all_gather", "send"]), st.integers(1, 3)))
)
def test_every_call_gets_the_kernels_of_its_group(groups: list[tuple[str, int]]) -> None:
    """Each group makes some calls of one operation on a thread, then launches one kernel."""
    calls: list[Call] = []
    kernels: list[Kernel] = []
    for number, (op, count) in enumerate(groups):
        at = 100 * number
        made: dict[str, int] = {"end": at + 9, "communicator": 1, "bytes": 8, "peer": 0}
        calls += [Call(op=op, thread=5, start=at + n, **made) for n in range(count)]
        kind = "send_recv" if op == "send" else op
        kernels.append(Kernel(kind, 5, at + 50, at + 51, at + 60, at + 70, "7"))
    assert carried_out(calls, kernels) == []
    taken: dict[tuple[int, int, str], int] = defaultdict(int)
    for call in calls:
        (transfer,) = call.transfers
        assert call.start // 100 == transfer[0] // 100
        taken[transfer] += 1
    assert list(taken.values()) == [count for _, count in groups]
