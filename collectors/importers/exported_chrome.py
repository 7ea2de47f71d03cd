"""Chrome JSON that Rankscope itself wrote (`rankscope export RUN --to chrome`): the same run again.

Such a file has the key `rankscope` before its events. Its categories are our kinds, its arguments
our columns, and a metadata event per rank holds that rank's facts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from collectors.importers.chrome_json import ChromeTrace, Event, first_of
from collectors.importers.formats import Advance
from collectors.importers.imported_run import ImportedRun
from tracer.errors import DamagedTrace, NewerFormat
from tracer.run_files import rank_facts_of, run_meta_of
from tracer.schema import EVENT_SCHEMA, FORMAT_VERSION, KINDS, MAX_RANK
from tracer.text import plain_text

_HEADER: Final = "rankscope"
_RANK_FACTS: Final = "rankscope_rank"
_MARK: Final = b'"rankscope": {"format_version"'
_EVENTS: Final = b'"traceEvents"'
_ARGUMENTS: Final = frozenset(EVENT_SCHEMA.names) - {"start", "duration", "kind", "name"}
_CLOCK: Final = "exported"
"""The export put all ranks on one clock."""
_LATEST_US: Final = 1e13
"""Four months; beyond, a double no longer holds a nanosecond."""


def is_exported(path: Path) -> bool:
    """Whether the file says before its events that it is an export of ours."""
    return first_of(path, _MARK, _EVENTS) == _MARK


def read(path: Path, run: ImportedRun, advance: Advance) -> None:
    """Give `run` all that the file holds.

    Raises:
        DamagedTrace: it is cut off, or something in it cannot be.
        NewerFormat: a newer Rankscope wrote it.
    """
    trace = ChromeTrace(path, advance)
    for event in trace.events():
        if run.known is None:
            _note_run(path, trace.facts.get(_HEADER), run)
        phase = event.get("ph")
        if phase == "X":
            run.rank(_rank(path, event), clock=_CLOCK).add(**_columns(path, event))
        elif phase == "C":
            ts, value = _ns(path, event, "ts"), _mapping(event.get("args")).get("value")
            run.rank(_rank(path, event), clock=_CLOCK).count(ts, _word(event), _number(path, value))
        elif phase == "M" and event.get("name") == _RANK_FACTS:
            number = _rank(path, event)
            known = rank_facts_of(_mapping(event.get("args")), path)
            run.rank(number, clock=_CLOCK).known = known
    if run.known is None:
        _note_run(path, trace.facts.get(_HEADER), run)


def _note_run(path: Path, header: Any, run: ImportedRun) -> None:
    about = _mapping(header)
    version = about.get("format_version")
    if not (isinstance(version, int) and 1 <= version <= FORMAT_VERSION):
        raise NewerFormat(
            f"{path}: format version {plain_text(repr(version))}, this Rankscope reads up to "
            f"{FORMAT_VERSION}; upgrade with `pip install -U rankscope`"
        )
    run.known = run_meta_of(_mapping(about.get("run")), path)
    run.world_size = max(run.world_size, run.known.world_size)
    clocks = about.get("clocks")
    if isinstance(clocks, str):
        run.lacks(f"the ranks' own clocks: the export put them on one ({plain_text(clocks)})")


def _columns(path: Path, event: Event) -> dict[str, Any]:
    kind = event.get("cat")
    if kind not in KINDS:
        raise _impossible(path, event, f"category {kind!r} is no kind")
    known = _mapping(event.get("args"))
    unknown = known.keys() - _ARGUMENTS
    if unknown:
        raise _impossible(path, event, f"no such columns: {sorted(unknown)}")
    times = {"start": _ns(path, event, "ts"), "duration": _ns(path, event, "dur")}
    return {**known, **times, "kind": kind, "name": _word(event)}


def _rank(path: Path, event: Event) -> int:
    rank = event.get("pid")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= MAX_RANK:
        raise _impossible(path, event, f"pid {rank!r} is no rank")
    return rank


def _ns(path: Path, event: Event, name: str) -> int:
    """µs with three decimals → ns."""
    value: Any = event.get(name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 <= value <= _LATEST_US:
        ns: int = round(value * 1000)
        return ns
    raise _impossible(path, event, f"{name} {value!r} is no time in µs")


def _number(path: Path, value: Any) -> float:
    """A counter's value; `nan` and infinities stand as text."""
    try:
        if isinstance(value, bool) or (isinstance(value, str) and math.isfinite(float(value))):
            raise ValueError
        return float(value)
    except (TypeError, ValueError) as error:
        said = plain_text(repr(value))[:40]
        raise DamagedTrace(f"{path}: {said} is no value of a counter") from error


def _word(event: Event) -> str:
    return str(event.get("name", ""))


def _impossible(path: Path, event: Event, why: str) -> DamagedTrace:
    said = plain_text(f"{_word(event)[:40]!r}: {why[:120]}")
    return DamagedTrace(f"{path}: an event that cannot be: {said}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
