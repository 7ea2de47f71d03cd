"""What the tracer records is what an independent witness sees: all of it, on every rank.

The same training runs three times: watched by a `TorchDispatchMode` that lists every operator of
`c10d` and `_c10d_functional`, recorded by the tracer, and alone.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.support.launching import ROOT, torchrun
from tests.support.reading import calls, facts
from tests.witness.dispatch_witness import Seen

pytestmark = pytest.mark.distributed

PROCESSES = {"ddp": 2, "fsdp2": 2, "tp": 2, "pp": 2, "tp_pp_dp": 8}


def _run(way: str, watched_by: str, directory: Path) -> Path:
    into = directory / watched_by
    into.mkdir()
    torchrun(PROCESSES[way], ROOT / "tests" / "witness" / "train.py", way, watched_by, into)
    return into


def _witnessed(directory: Path, rank: int) -> Counter[Seen]:
    listed = json.loads((directory / f"rank-{rank}.witness.json").read_text())
    return Counter(
        {
            Seen(op, tuple(ranks), n, dtype, peer): times
            for op, ranks, n, dtype, peer, times in listed
        }
    )


def _objects_whole(seen: Counter[Seen]) -> Counter[Seen]:
    """A message of Python objects is one event to us, and two operators to the witness: the sizes
    as int64, then the bytes. The stages of a pipeline send their shapes so.
    """
    whole = Counter(seen)
    sizes = [s for s in seen if s.op in ("send", "recv") and s.dtype == "int64"]
    for size in sizes:
        wanted = size._replace(elements=0, dtype="uint8")
        (content,) = [s for s in seen if s._replace(elements=0) == wanted]
        assert seen[size] == seen[content]
        del whole[size], whole[content]
        whole[content._replace(elements=content.elements + 8 * size.elements)] = seen[size]
    return whole


def _recorded(directory: Path, rank: int, step: int | None = None) -> Counter[Seen]:
    groups = facts(directory / "run", rank)["groups"]
    return Counter(
        Seen(
            row["name"],
            tuple(groups[row["group"]]["ranks"]),
            row["count"],
            row["dtype"] or "",
            row["peer"],
        )
        for row in calls(directory / "run", rank, step=step)
    )


def _differences(rank: int, seen: Counter[Seen], recorded: Counter[Seen]) -> list[str]:
    return [
        f"rank {rank}: not {said}: {n} x {op}"
        for said, missing in (("recorded", seen - recorded), ("witnessed", recorded - seen))
        for op, n in missing.items()
    ]


@pytest.mark.parametrize("way", PROCESSES)
def test_the_tracer_records_all_that_the_witness_sees(way: str, tmp_path: Path) -> None:
    witness, trace, bare = (_run(way, by, tmp_path) for by in ("witness", "trace", "bare"))
    differences = []
    for rank in range(PROCESSES[way]):
        seen, recorded = _objects_whole(_witnessed(witness, rank)), _recorded(trace, rank)
        assert seen
        differences += _differences(rank, seen, recorded)
    assert not differences, "\n".join(differences)

    for rank in range(PROCESSES[way]):
        trained = {
            (run / f"rank-{rank}.parameters.bin").read_bytes() for run in (witness, trace, bare)
        }
        assert len(trained) == 1


def test_every_way_to_communicate_is_recorded_as_the_witness_sees_it(tmp_path: Path) -> None:
    torchrun(2, ROOT / "tests" / "witness" / "calls.py", tmp_path)
    differences = []
    for rank in (0, 1):
        seen = _witnessed(tmp_path, rank)
        assert len(seen) > 30
        differences += _differences(rank, seen, _recorded(tmp_path, rank, step=0))
        assert facts(tmp_path / "run", rank)["unseen"] == 0
    assert not differences, "\n".join(differences)

    for rank, message in ((0, "send"), (1, "recv")):
        assert [row["name"] for row in calls(tmp_path / "run", rank, step=1)] == [
            "all_gather_object",
            "broadcast_object_list",
            "gather_object",
            "scatter_object_list",
            message,
        ]
    sent, received = (calls(tmp_path / "run", rank, step=1)[-1] for rank in (0, 1))
    for same in ("group", "seq", "bytes", "count", "dtype"):
        assert sent[same] == received[same]
    assert (sent["peer"], received["peer"]) == (1, 0)
