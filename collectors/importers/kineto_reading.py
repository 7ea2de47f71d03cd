"""One Kineto file → its events. Whoever only reads needs no more than this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectors.importers.chrome_json import ChromeTrace
from collectors.importers.kineto_columns import of_events
from collectors.importers.kineto_events import KinetoEvents
from collectors.importers.kineto_pieces import PieceReader
from tracer.errors import DamagedTrace


@dataclass(kw_only=True, slots=True, frozen=True)
class KinetoFile:
    """One file, read. `events` is None if it is an export of Rankscope itself."""

    path: Path
    facts: dict[str, Any]
    events: KinetoEvents | None


def read_file(path: Path, reader: PieceReader, advance: Callable[[int], None]) -> KinetoFile:
    """Read one file.

    Args:
        reader: knows the layouts of the files before.
        advance: is told how many more bytes of the file were read.

    Raises:
        DamagedTrace: it is cut off, no JSON, or made to fill the memory.
    """
    events, trace = KinetoEvents(), ChromeTrace(path, advance)
    try:
        for columns in trace.stretches(reader.columns, of_events):
            events.take(columns)
    except RecursionError as error:
        raise DamagedTrace(f"{path}: nested deeper than any trace") from error
    except DamagedTrace as error:
        if str(path) in str(error):
            raise
        raise DamagedTrace(f"{path}: {error}") from error
    events.end()
    return KinetoFile(path=path, facts=trace.facts, events=events)
