"""Find events: by words of their name or kind, and by rank, stage, microbatch or step.

    all_reduce                  events whose name or kind has this word, in any case
    kind:wait recv              waits for a receive
    stage:1 mb:4 kind:forward   the forward of microbatch 4 on stage 1
    rank:0-3 step:12            everything of step 12 on ranks 0 to 3

All terms must hold. Hits are in order of start.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tracer.errors import UsageError
from tracer.schema import KINDS

if TYPE_CHECKING:
    from dashboard.timeline.lanes import Timeline

MOST_TICKS: Final = 1_000
"""Places of hits that a reply names, spread over the run."""
_MOST_TERMS: Final = 16
_AT_ONCE: Final = 1 << 20
"""Events: what is made of them on the way takes a few MB, and stays in the processor's cache."""
_RANGE: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_NUMBERS: Final = {
    "rank": "rank",
    "r": "rank",
    "stage": "stage",
    "mb": "microbatch",
    "microbatch": "microbatch",
    "step": "step",
}

Mask = NDArray[np.bool_]


@dataclass(kw_only=True, slots=True, frozen=True)
class Hits:
    """Places in the timeline's arrays, and their rows, in order of start (then row)."""

    places: NDArray[np.int64]
    rows: NDArray[np.int64]
    start: NDArray[np.int64]


@dataclass(slots=True)
class _Wanted:
    words: list[str]
    kinds: set[int]
    numbers: dict[str, tuple[int, int]]


def search(timeline: Timeline, text: str) -> Hits:
    """All events that `text` asks for (see the top of this file).

    Raises:
        UsageError: a term means nothing; the message says what can be asked.
    """
    wanted = _parse(text)
    passes = _passes(timeline, wanted)
    found = [np.zeros(0, np.int64)]
    for low, high in _stretches(timeline, wanted):
        for begin in range(low, high, _AT_ONCE):
            stretch = slice(begin, min(begin + _AT_ONCE, high))
            kept = np.ones(stretch.stop - begin, np.bool_)
            for passing in passes:
                kept &= passing(stretch)
            found.append(begin + np.flatnonzero(kept))
    places = np.concatenate(found)
    row_of = np.repeat(
        np.arange(timeline.row_count), np.diff(np.searchsorted(places, timeline.offsets))
    )
    start = np.asarray(timeline.start[places])
    order = np.argsort(start, kind="stable")
    return Hits(places=places[order], rows=row_of[order], start=start[order])


def hit(timeline: Timeline, hits: Hits, at: int) -> dict[str, Any]:
    """One hit as the page needs it to go there."""
    place, row = int(hits.places[at]), int(hits.rows[at])
    lane = next(one for one in timeline.lanes if one.first_row <= row < one.first_row + one.rows)
    return {
        "rank": lane.rank,
        "row": int(timeline.source[place]),
        "start": int(timeline.start[place]),
        "duration": int(timeline.duration[place]),
    }


def ticks(hits: Hits) -> list[int]:
    """Where hits begin, ns: all of them, or of very many some that are evenly spread."""
    chosen = np.linspace(0, len(hits.start) - 1, min(len(hits.start), MOST_TICKS)).astype(np.int64)
    found: list[int] = hits.start[chosen].tolist()
    return found


def _parse(text: str) -> _Wanted:
    terms = text.lower().split()
    if not terms or len(terms) > _MOST_TERMS:
        raise UsageError(f"a search has 1 to {_MOST_TERMS} terms")
    wanted = _Wanted([], set(), {})
    for term in terms:
        key, colon, value = term.partition(":")
        if colon and key == "kind":
            kinds = {code for code, kind in enumerate(KINDS) if kind.startswith(value)}
            if not value or not kinds:
                raise UsageError(f"no kind {value!r}: there are {', '.join(KINDS)}")
            wanted.kinds |= kinds
        elif colon and key in _NUMBERS:
            wanted.numbers[_NUMBERS[key]] = _range(key, value)
        else:
            wanted.words.append(term)
    return wanted


def _range(key: str, value: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(value)
    if found is None:
        raise UsageError(f"{key}:{value}: wanted a number or a range, as {key}:3 or {key}:0-3")
    low = int(found[1])
    return low, int(found[2]) if found[2] else low


def _stretches(timeline: Timeline, wanted: _Wanted) -> Iterator[tuple[int, int]]:
    """The places of the wanted ranks' events, those that adjoin together."""
    low, high = wanted.numbers.get("rank", (0, sys.maxsize))
    begin = end = 0
    for lane in timeline.lanes:
        first, last = timeline.offsets[[lane.first_row, lane.first_row + lane.rows]].tolist()
        if not low <= lane.rank <= high:
            continue
        if first != end:
            yield begin, end
            begin = first
        end = last
    yield begin, end


def _passes(timeline: Timeline, wanted: _Wanted) -> list[Callable[[slice], Mask]]:
    """For each term, which events of a stretch it holds for."""

    def within(column: NDArray[np.int32], low: int, high: int) -> Callable[[slice], Mask]:
        return lambda of: (column[of] >= low) & (column[of] <= high)

    def named(word: str) -> Callable[[slice], Mask]:
        names = np.array([word in name.lower() for name in timeline.names], np.bool_)
        kinds = np.array([word in kind for kind in KINDS])
        return lambda of: names[timeline.name[of]] | kinds[timeline.kind[of]]

    passes = [
        within(column, *wanted.numbers[name])
        for name, column in (
            ("step", timeline.step),
            ("stage", timeline.stage),
            ("microbatch", timeline.microbatch),
        )
        if name in wanted.numbers
    ]
    if wanted.kinds:
        of_kind = np.isin(np.arange(len(KINDS)), list(wanted.kinds))
        passes.append(lambda of: of_kind[timeline.kind[of]])
    return passes + [named(word) for word in wanted.words]
