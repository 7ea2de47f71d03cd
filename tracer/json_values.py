"""Values of a JSON file, written as every reader takes them, and checked one by one as they are
read: the error says what was found and wanted.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tracer.errors import DamagedTrace
from tracer.text import plain_text

_MAX_BYTES: Final = 16 << 20
"""A plan of 10,000 ranks is some MB; beyond this the file is not one of ours. Python's values take
up to 25 times the space of their JSON."""
_MAX_DEPTH: Final = 32
"""Our own files are 4 deep; the rest is for a configuration."""
_SHOWN: Final = 60


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        FileNotFoundError: there is none.
        DamagedTrace: it is no file, too large, not JSON, or nested too deep.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise DamagedTrace(f"{path}: is not a regular file")
    if found.st_size > _MAX_BYTES:
        raise DamagedTrace(f"{path}: larger than {_MAX_BYTES >> 20} MB, not one of our files")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        _check(raw)
    except (ValueError, RecursionError) as error:
        raise DamagedTrace(f"{path}: not valid JSON ({plain_text(str(error))})") from error
    if not isinstance(raw, dict):
        raise DamagedTrace(f"{path}: holds {type(raw).__name__}, wanted a JSON object")
    return raw


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """JSON that every reader takes: NaN and the infinities, for which it has no word, become text,
    and so does what it does not know.
    """
    plain = json.loads(json.dumps(value, default=str), parse_constant=str)
    return json.dumps(plain, indent=indent)


def text(value: Any) -> str:
    """A string, as one line of plain text."""
    return plain_text(_of_type(value, str, "text"))


def whole(value: Any, low: int, high: int) -> int:
    """A whole number within the two limits."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{_shown(value)}: wanted a whole number, {low} to {high:,}")
    return value


def key(value: str, high: int) -> int:
    """A whole number from 0 on that is the key of an object, as its digits."""
    if not (value.isascii() and value.isdecimal() and len(value) <= len(str(high))):
        raise ValueError(f"{_shown(value)}: wanted a whole number, 0 to {high:,}")
    return whole(int(value), 0, high)


def number(value: Any) -> float:
    """A number that is finite and not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{_shown(value)}: wanted a number")
    if not (math.isfinite(value) and 0 <= value < 1e300):
        raise ValueError(f"{_shown(value)}: wanted a finite number that is not negative")
    return float(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """An object; null is an empty one."""
    found: Mapping[str, Any] = _of_type({} if value is None else value, dict, "an object")
    return found


def sequence(value: Any) -> Sequence[Any]:
    """A list; null is an empty one."""
    found: Sequence[Any] = _of_type([] if value is None else value, list, "a list")
    return found


def _of_type(value: Any, type_: type, wanted: str) -> Any:
    if not isinstance(value, type_):
        raise ValueError(f"{_shown(value)}: wanted {wanted}")
    return value


def _shown(value: Any) -> str:
    """The beginning of a value; a number may have thousands of digits."""
    said = plain_text(repr(value))
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"


def _check(raw: Any) -> None:
    """Nothing is nested too deep for those who show it, and text is text (JSON can spell halves
    of surrogate pairs, which no encoding takes).
    """
    waiting = [(raw, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} deep")
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, dict):
            waiting += [(part, depth + 1) for item in value.items() for part in item]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
