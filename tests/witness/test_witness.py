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


def _recorded(directory: Path, rank: int) -> Counter[Seen]:
    groups = facts(directory / "run", rank)["groups"]
    return Counter(
        Seen(
            row["name"],
            tuple(groups[row["group"]]["ranks"]),
            row["count"],
            row["dtype"] or "",
            row["peer"],
        )
        for row in calls(directory / "run", rank)
    )


@pytest.mark.parametrize("way", PROCESSES)
def test_the_tracer_records_all_that_the_witness_sees(way: str, tmp_path: Path) -> None:
    witness, trace, bare = (_run(way, by, tmp_path) for by in ("witness", "trace", "bare"))
    differences = []
    for rank in range(PROCESSES[way]):
        seen, recorded = _witnessed(witness, rank), _recorded(trace, rank)
        assert seen
        differences += [
            f"rank {rank}: not recorded: {n} x {op}" for op, n in (seen - recorded).items()
        ]
        differences += [
            f"rank {rank}: not witnessed: {n} x {op}" for op, n in (recorded - seen).items()
        ]
    assert not differences, "\n".join(differences)

    for rank in range(PROCESSES[way]):
        trained = {
            (run / f"rank-{rank}.parameters.bin").read_bytes() for run in (witness, trace, bare)
        }
        assert len(trained) == 1
