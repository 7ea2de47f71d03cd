"""Old index files are made anew when what they hold is told otherwise now: VERSION says so."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dashboard import open_run
from dashboard.timeline.array_file import MemoryStore
from dashboard.timeline.build import write_timeline
from dashboard.timeline.index import VERSION
from tests.support.toy import Event, write_run
from tracer.schema import KINDS

WRITTEN = {
    "recorded": (2, "a21bfbb996878693"),
    "recorded with a device": (2, "0ea733cff0379c38"),
    "imported": (2, "6a0f9dd78dd37e40"),
}
"""Version, and what it makes of the run below."""

LANES = ("host:main", "host:launches", "device:7", "device:8")
GROUPS = (None, "tp:0-1", "pp:0-1", "dp:0", "odd")


def _events(lanes: tuple[str, ...]) -> list[Event]:
    """Of every kind on every lane, with every group; they overlap and are nested."""
    chance = random.Random(20_261_127)
    return [
        Event(
            start=int(chance.random() * 4_000),
            duration=int(chance.random() * 60),
            kind=kind,
            name=name,
            lane=lane,
            step=step,
            stage=step,
            group=group,
            bytes=None if group is None else step * 8,
            correlation=int(chance.random() * 30),
        )
        for kind in KINDS
        for lane in lanes
        for group in GROUPS
        for step, name in enumerate(("gemm", "Memcpy DtoH", "ncclDevKernel_AllReduce"))
    ]


@pytest.mark.parametrize("case", WRITTEN)
def test_what_is_written_is_what_the_version_stands_for(case: str, tmp_path: Path) -> None:
    lanes = LANES[:2] if case == "recorded" else LANES
    run = open_run(write_run(tmp_path / "run", {0: _events(lanes)}))
    if case == "imported":
        run.meta = replace(run.meta, source={"format": "kineto"})
    store = MemoryStore()
    head = write_timeline(run, store, advance=lambda events: None, few_events=-1)
    digest = hashlib.sha256(repr(sorted(head.items())).encode())
    for name, array in sorted(store.arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    assert (VERSION, digest.hexdigest()[:16]) == WRITTEN[case], (
        "the index holds something else than before: raise VERSION in dashboard/timeline/index.py, "
        "so that files that users have are made anew, and write both here"
    )
