"""What opening a run notes of events, part by part."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from dashboard.runs.skimming import Skim
from tests.support.toy import Event, write_run
from tracer.schema import events_file
from tracer.streams import read_stream


def _part(path: Path, *steps: int) -> pa.Table:
    rows = [
        Event(start=10 * step, duration=10, kind="step", name="step", step=step) for step in steps
    ]
    return read_stream(write_run(path, {0: rows}) / events_file(0), "events").table


def test_steps_are_complete_that_all_ranks_have_which_were_read_to_their_end(
    tmp_path: Path,
) -> None:
    seen = Skim()
    assert seen.complete is None
    for rank, steps, is_done in ((0, (1, 2, 3), True), (1, (2,), False), (2, (4, 2, 3), True)):
        for step in steps:
            seen.note(rank, _part(tmp_path / f"{rank}-{step}", step))
        if is_done:
            seen.done(rank)
    assert seen.complete == {2, 3}
    assert seen.begins == {0: 10, 1: 20, 2: 20}
    assert seen.rows == {0: 3, 1: 1, 2: 3}
