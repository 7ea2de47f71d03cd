"""Find events: by words of their name or kind, and by rank, stage, microbatch or step.

    all_reduce                  events whose name or kind has this word, in any case
    kind:wait recv              waits for a receive
    stage:1 mb:4 kind:forward   the forward of microbatch 4 on stage 1
    rank:0-3 step:12            everything of step 12 on ranks 0 to 3

All terms must hold. Hits are in order of start.
"""

from __future__ import annotations

import re
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
    rows = _rows(timeline, wanted)
    row_of = np.repeat(np.arange(timeline.row_count), np.diff(timeline.offsets))
    found = rows[row_of]
    if wanted.kinds:
        found &= np.isin(timeline.kind, list(wanted.kinds))
    for word in wanted.words:
        names = [code for code, name in enumerate(timeline.names) if word in name.lower()]
        kinds = [code for code, kind in enumerate(KINDS) if word in kind]
        found &= np.isin(timeline.name, names) | np.isin(timeline.kind, kinds)
    if "microbatch" in wanted.numbers:
        low, high = wanted.numbers["microbatch"]
        found &= (timeline.microbatch >= low) & (timeline.microbatch <= high)
    places = np.flatnonzero(found)
    for column in ("stage", "step"):
        if column in wanted.numbers:
            places = _with(timeline, places, row_of, column, wanted.numbers[column])
    start = np.asarray(timeline.start[places])
    order = np.argsort(start, kind="stable")
    return Hits(places=places[order], rows=row_of[places[order]], start=start[order])


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


def _rows(timeline: Timeline, wanted: _Wanted) -> Mask:
    """The rows of the wanted ranks."""
    rows = np.ones(timeline.row_count, np.bool_)
    if "rank" in wanted.numbers:
        low, high = wanted.numbers["rank"]
        for lane in timeline.lanes:
            rows[lane.first_row : lane.first_row + lane.rows] = low <= lane.rank <= high
    return rows


def _with(
    timeline: Timeline,
    places: NDArray[np.int64],
    row_of: NDArray[np.int64],
    column: str,
    limits: tuple[int, int],
) -> NDArray[np.int64]:
    """Those of `places` whose events have a number within `limits` in `column`."""
    rank_of_row = np.concatenate([np.full(lane.rows, lane.rank) for lane in timeline.lanes])
    ranks = rank_of_row[row_of[places]]
    kept = np.zeros(len(places), np.bool_)
    for rank in np.unique(ranks).tolist():
        mine = ranks == rank
        values = timeline.tables[rank][column].fill_null(-1).to_numpy()
        number = values[timeline.source[places[mine]]]
        kept[mine] = (number >= limits[0]) & (number <= limits[1])
    return places[kept]
