"""The lines of NCCL Inspector's JSON, each with the communicator and process that it belongs to.

Up to format v4.2 each record says it itself; from v4.3 on a `dump_stats` record says it for the
ones that follow. Source: plugins/profiler/inspector of NCCL 2.28 and later (README.md,
inspector_json.cc).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tracer.errors import DamagedTrace
from tracer.schema import MAX_RANK
from tracer.text import plain_text

_LONGEST_LINE: Final = 1 << 20
"""A verbose record has two timestamps of each of 64 channels: some 20 kB."""
_MOST_CHANNELS: Final = 1024
_MICROSECONDS: Final = 1 << 52
_BYTES: Final = 1 << 48
_COUNT: Final = 1 << 48


@dataclass(frozen=True, slots=True)
class Member:
    """One rank of one communicator, and the process it is in."""

    communicator: str
    name: str
    place: int
    size: int
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Record:
    """One operation. Times in ns on the wall clock of its host; `called` is when the host asked
    for it and `begun` when its kernel began, both only in verbose records; `written` is when the
    record was written. `is_timed_by_gpu`: the duration is of the GPU's clock.
    """

    member: Member
    op: str
    number: int
    peer: int | None
    bytes: int
    duration: int
    is_timed_by_gpu: bool
    written: int
    called: int | None
    begun: int | None


@dataclass(slots=True)
class Counts:
    """What was read, or was not, beside the operations."""

    version: str = ""
    lost: int = 0
    """Operations that the Inspector itself says it has lost."""
    proxy: int = 0
    without_context: int = 0
    cut_off: bool = False


def read_records(path: Path, counts: Counts, advance: Callable[[int], None]) -> Iterator[Record]:
    """The operations in a file, in its order.

    Raises:
        DamagedTrace: a line that is no record; the message has its number.
    """
    context: Mapping[str, Any] = {}
    lost: dict[str, int] = {}
    with path.open("rb") as file:
        for line_number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
            advance(len(line))
            if not line.strip():
                continue
            try:
                raw = _object(json.loads(line))
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
                    counts.cut_off = True  # its process was killed while it wrote
                    return
                raise _damaged(path, line_number, error) from error
            try:
                if "dump_stats" in raw:
                    context = raw
                    _note_stats(raw, lost)
                elif "proxy_trace" in raw:
                    counts.proxy += 1
                elif "header" not in raw and not context:
                    counts.without_context += 1
                else:
                    yield _record(context, raw, counts)
            except (KeyError, ValueError) as error:
                raise _damaged(path, line_number, error) from error
    counts.lost += sum(lost.values())


def _damaged(path: Path, line: int, error: Exception) -> DamagedTrace:
    missing = isinstance(error, KeyError)
    why = f"has no {error}" if missing else plain_text(str(error))[:200]
    return DamagedTrace(
        f"{path}: line {line} is no record of NCCL Inspector: {why}; take the line out, or dump "
        "anew"
    )


def _note_stats(raw: Mapping[str, Any], lost: dict[str, int]) -> None:
    """Losses are counted since the communicator began: the last count holds."""
    stats = _object(raw["dump_stats"])
    header = _object(raw.get("header", {}))
    communicator = plain_text(str(header.get("id", "")))[:100]
    for what in ("coll", "p2p"):
        total = stats.get(f"{what}_dropped_total", 0)
        lost[f"{communicator} {what}"] = _whole(total, _COUNT)


def _record(context: Mapping[str, Any], raw: Mapping[str, Any], counts: Counts) -> Record:
    header = _object(raw.get("header") or context["header"])
    metadata = _object(raw.get("metadata") or context["metadata"])
    counts.version = _text(metadata.get("inspector_output_format_version", "unknown"))
    is_message = "p2p_perf" in raw
    what = "p2p" if is_message else "coll"
    body = _object(raw["p2p_perf" if is_message else "coll_perf"])
    size = _whole(header["n_ranks"], MAX_RANK)
    times = _object(body.get("event_trace_ts", {}))
    return Record(
        member=Member(
            communicator=_text(header["id"]),
            name=_text(header.get("comm_name", "")),
            place=_whole(header["rank"], max(size - 1, 0)),
            size=size,
            host=_text(metadata["hostname"]),
            pid=_whole(metadata["pid"], 1 << 31),
        ),
        op=_text(body[what]),
        number=_whole(body[f"{what}_sn"], _COUNT),
        peer=_whole(body["p2p_peer"], MAX_RANK) if is_message else None,
        bytes=_whole(body[f"{what}_msg_size_bytes"], _BYTES),
        duration=_microseconds(body[f"{what}_exec_time_us"]),
        is_timed_by_gpu=body.get(f"{what}_timing_source", "kernel_gpu") == "kernel_gpu",
        written=_microseconds(metadata["dump_timestamp_us"]),
        called=_time(times.get(f"{what}_start_ts")),
        begun=_begun(times.get("kernel_events")),
    )


def _begun(channels: Any) -> int | None:
    """When the first channel began."""
    if not isinstance(channels, list) or len(channels) > _MOST_CHANNELS:
        return None
    starts = [_time(_object(channel).get("kernel_start_ts")) for channel in channels]
    return min((start for start in starts if start is not None), default=None)


def _time(value: Any) -> int | None:
    """0 is what was never noted."""
    return None if value is None or value == 0 else _microseconds(value)


def _microseconds(value: Any) -> int:
    """µs → ns."""
    if type(value) not in (int, float) or not 0 <= value < _MICROSECONDS:
        raise ValueError(f"{_shown(value)} where microseconds belong")
    return value * 1000 if type(value) is int else round(value * 1000)


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{_shown(value)} where a whole number from 0 to {most:,} belongs")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} where text belongs")
    return plain_text(value)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{_shown(value)} where an object belongs")
    return value


def _shown(value: Any) -> str:
    known = isinstance(value, (int, float, str, bool)) or value is None
    return plain_text(repr(value))[:60] if known else type(value).__name__
