"""The content of a flight recorder's dump, each value checked before anything is computed of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from tracer.errors import DamagedTrace
from tracer.schema import MAX_RANK
from tracer.text import plain_text

Raw: TypeAlias = dict[str, Any]

_MOST_ENTRIES: Final = 1_000_000
_MOST_TENSORS: Final = 100_000
"""Of one operation: the lists of a coalesced one have one per parameter."""
_MOST_IN_ALL: Final = 4_000_000
"""Tensors of all operations: a pickle may name one list a million times."""
_LONGEST: Final = 1 << 16
"""Characters of a text."""
_MOST_DIMENSIONS: Final = 64
_MOST_ELEMENTS: Final = 1 << 48
_TIME: Final = 1 << 62
_COUNT: Final = 1 << 53

_NUMBERS: Final = {"record_id": _COUNT, "collective_seq_id": _COUNT, "time_created_ns": _TIME}
_NUMBERS_OF_SOME: Final = {"p2p_seq_id": _COUNT, "op_id": _COUNT}
_TEXTS: Final = ("profiling_name",)


def checked_entries(path: Path, entries: Sequence[Any]) -> list[Raw]:
    """The entries, with the fields that every version has, of the right types and sizes.

    Raises:
        DamagedTrace: an entry is not one; the message names it.
    """
    if len(entries) > _MOST_ENTRIES:
        raise DamagedTrace(f"{path}: {len(entries):,} entries, wanted {_MOST_ENTRIES:,} at most")
    found: list[Raw] = []
    tensors = 0
    for number, entry in enumerate(entries):
        try:
            found.append(_entry(entry))
        except (KeyError, ValueError) as error:
            missing = isinstance(error, KeyError)
            why = f"has no {error}" if missing else str(error)
            raise DamagedTrace(
                f"{path}: entry {number} is not one of the flight recorder: {why}"
            ) from error
        tensors += len(found[-1]["input_sizes"]) + len(found[-1]["output_sizes"])
        if tensors > _MOST_IN_ALL:
            raise DamagedTrace(f"{path}: more than {_MOST_IN_ALL:,} tensors in all its entries")
    return found


def checked_groups(path: Path, config: Any) -> dict[str, tuple[int, ...]]:
    """Members of the process groups, by the group's name, where the dump says them.

    NCCL notes them. Gloo has one nameless group with the members of whichever was made last.
    """
    if config is None:
        return {}
    try:
        found = {}
        for name, group in _dict(config).items():
            ranks = _ranks(_dict(group).get("ranks", "[]"))
            if name and ranks:
                found[_text(name)] = ranks
        return found
    except ValueError as error:
        raise DamagedTrace(f"{path}: 'pg_config' is damaged: {error}") from error


def _entry(raw: Any) -> Raw:
    entry = _dict(raw)
    found: Raw = {name: _whole(entry[name], most) for name, most in _NUMBERS.items()}
    found |= {name: _whole(entry.get(name, 0), most) for name, most in _NUMBERS_OF_SOME.items()}
    found |= {name: _text(entry[name]) for name in _TEXTS}
    group = _list(entry["process_group"], 2)
    if len(group) != 2:
        raise ValueError(f"'process_group' is a list of {len(group)}, wanted name and description")
    found["process_group"] = _text(group[0]), _text(group[1])
    for side in ("input", "output"):
        sizes = [_shape(size) for size in _list(entry[f"{side}_sizes"], _MOST_TENSORS)]
        found[f"{side}_sizes"] = sizes
        dtypes = _list(entry.get(f"{side}_dtypes", []), _MOST_TENSORS)
        found[f"{side}_dtypes"] = [_text(dtype) for dtype in dtypes[:1]]
    found["state"] = _text(entry.get("state", ""))
    found["is_p2p"] = entry.get("is_p2p") is True
    found["retired"] = entry.get("retired") is True
    found["duration_ms"] = _milliseconds(entry.get("duration_ms"))
    found["completed"] = _time(entry.get("time_discovered_completed_ns"))
    found["caller"] = _caller(entry.get("frames"))
    return found


def _caller(frames: Any) -> str:
    """Where the training called it: the innermost frame that is not torch's own."""
    for frame in frames[:_MOST_DIMENSIONS] if isinstance(frames, (list, tuple)) else ():
        if not isinstance(frame, dict):
            continue
        file, line, name = (frame.get(key) for key in ("filename", "line", "name"))
        if not (isinstance(file, str) and isinstance(name, str) and type(line) is int):
            continue
        if len(file) > _LONGEST or len(name) > _LONGEST:
            continue
        if "/torch/" not in file and abs(line) < _COUNT:
            return f"{plain_text(name)} at {plain_text(file)}:{line}"
    return ""


def _shape(raw: Any) -> tuple[int, ...]:
    shape = tuple(_whole(length, _MOST_ELEMENTS) for length in _list(raw, _MOST_DIMENSIONS))
    elements = 1
    for length in shape:
        elements *= length
        if elements > _MOST_ELEMENTS:
            raise ValueError(f"a tensor of more than {_MOST_ELEMENTS:,} elements")
    return shape


def _ranks(said: Any) -> tuple[int, ...]:
    """`"[0, 1, 2]"` → (0, 1, 2)."""
    if not isinstance(said, str):
        raise ValueError(f"'ranks' is {type(said).__name__}, wanted text like '[0, 1]'")
    try:
        ranks = _list(json.loads(said), MAX_RANK + 1)
    except RecursionError as error:
        raise ValueError("'ranks' is nested") from error
    return tuple(sorted({_whole(rank, MAX_RANK) for rank in ranks}))


def _dict(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where a dict belongs")
    return value


def _list(value: Any, most: int) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)) or len(value) > most:
        said = f"{type(value).__name__} where a list of {most:,} at most belongs"
        raise ValueError(said)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} where text belongs")
    if len(value) > _LONGEST:
        raise ValueError(f"a text of more than {_LONGEST:,} characters")
    return plain_text(value)


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        said = "a number" if type(value) is int else type(value).__name__
        raise ValueError(f"{said} where a whole number from 0 to {most:,} belongs")
    return value


def _time(value: Any) -> int | None:
    """JSON has 0 where a pickle has None: not seen to happen."""
    return None if value is None or value == 0 else _whole(value, _TIME)


def _milliseconds(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < 1e9:
        raise ValueError("'duration_ms' is not a number of milliseconds")
    return float(value)
