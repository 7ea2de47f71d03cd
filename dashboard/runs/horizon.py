"""Until when a file tells what its rank did: a rank that was killed took its last moments along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc

from tracer.errors import TraceError
from tracer.run_files import RankFacts
from tracer.schema import counters_file
from tracer.streams import read_stream

_SLACK_NS = 100_000_000
"""The counters are read a little after the events of the same flush."""


def recorded_until(directory: Path, facts: Mapping[int, RankFacts]) -> dict[int, int]:
    """The raw time of the last flush of each rank that did not close its trace.

    Counters are written at each flush, whatever the rank does. Without them nothing is certain,
    so such a rank is given the beginning of time.
    """
    until = {}
    for rank, known in facts.items():
        if known.ended != "closed":
            try:
                times = read_stream(directory / counters_file(rank), "counters").table["ts"]
                last = pc.max(times).as_py()
            except (TraceError, OSError):
                last = None
            until[rank] = 0 if last is None else last - _SLACK_NS
    return until
