"""Where each rank's step time went, by operation: which span was the innermost at every instant.

An instant belongs to the category that the accounting gives it to, and there to the innermost span:
so the operations of a category add up to it, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.intervals import Intervals
from dashboard.analysis.rows_by_key import Ints, summed
from dashboard.analysis.steps import step_windows
from dashboard.analysis.time_spent.claims import IDLE, claims_of, divide
from dashboard.analysis.time_spent.leaves import innermost
from dashboard.runs.part import in_steps

if TYPE_CHECKING:
    from dashboard.runs import Recording

OTHERWISE: Final = "no operation"
"""The name of the time in which none was under way."""

_COLUMNS: Final = ("name", "stage")
_TABLE: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("step", pa.int32()),
        ("category", pa.string()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("stage", pa.int32()),
        ("duration", pa.int64()),
    ]
)
_WORDS: Final = ("category", "kind", "name")
"""Kept as dictionaries: there are few, and millions of rows in a long run."""

_NOTHING: Final = pa.table(
    {"kind": [""], "name": [OTHERWISE], "stage": pa.array([None], pa.int32())}
)
"""In the place of events where there are none."""


def time_by_operation(run: Recording, steps: Collection[int] | None = None) -> pa.Table:
    """Columns rank, step, category, kind, name, stage, duration (ns), for complete steps, in the
    order of these columns.

    The rows of a rank and step add up to its window, and those of a category to what the accounting
    says of it. A wait inside a forward is the wait's time, not the forward's; where operations of
    one category merely overlap, the one that began last has the time. What carries no stage is of
    its rank's stage, if the rank holds one.

    Before (events of one step, 0..20)     After
    forward F  stage 0   0..10             compute forward F, stage 0      6
    wait recv  stage 0   4..8              comm:pp wait recv, stage 0      4
                                           idle, no operation, stage 0    10
    """
    windows = step_windows(run, steps)
    parts = [_with_words(_TABLE.empty_table())]
    for rank in run.ranks:
        mine = windows.filter(pc.equal(windows["rank"], rank))
        if mine.num_rows:
            parts.append(_with_words(_summed(pa.concat_tables(_of_rank(run, rank, mine)))))
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def _of_rank(run: Recording, rank: int, windows: pa.Table) -> Iterator[pa.Table]:
    claims = claims_of(in_steps(run, rank, windows["step"].to_pylist()), rank, _COLUMNS)
    windows = windows.sort_by("start")
    begin = windows["start"].to_numpy()
    bounds = np.stack([begin, begin + windows["duration"].to_numpy()], axis=1)
    held = run.facts[rank].stages
    only_stage = pa.scalar(held[0] if len(held) == 1 else None, pa.int32())
    for category, taken in divide(claims, int(bounds[0, 0]), int(bounds[:, 1].max())):
        if category == IDLE:
            pieces, events = taken, _NOTHING
            span = np.zeros(len(taken), np.int64)
        else:
            events = claims.events[category]
            pieces, span = _innermost(events)
        piece, window, duration = _common(pieces, taken, bounds)
        done = events.take(pa.array(span[piece]))
        yield pa.table(
            {
                "rank": np.full(len(piece), rank, np.int32),
                "step": windows["step"].take(pa.array(window)),
                "category": pa.array([category] * len(piece), pa.string()),
                "kind": done["kind"].cast(pa.string()),
                "name": pc.fill_null(done["name"].cast(pa.string()), ""),
                "stage": pc.coalesce(done["stage"], only_stage),
                "duration": duration,
            },
            schema=_TABLE,
        )


def _innermost(events: pa.Table) -> tuple[Intervals, Ints]:
    """Pieces side by side, and the row of `events` that each is of."""
    begin = events["start"].to_numpy()
    end = begin + events["duration"].to_numpy()
    start, until, span = innermost(begin, end)
    return np.stack([start, until], axis=1), span


def _common(pieces: Intervals, taken: Intervals, windows: Intervals) -> tuple[Ints, Ints, Ints]:
    """What lies in all three, cut where any of them is: numbers of piece and window, and ns.

    Piece 0-10, taken 2-8, windows 0-5 and 5-10 → 2-5 of window 0, 3 ns, and 5-8 of window 1, 3 ns.
    """
    cuts = np.unique(np.concatenate([pieces.ravel(), taken.ravel(), windows.ravel()]))
    start = cuts[:-1]
    piece, claim, window = (_index(spans, start) for spans in (pieces, taken, windows))
    common = (piece >= 0) & (claim >= 0) & (window >= 0)
    return piece[common], window[common], np.diff(cuts)[common]


def _index(spans: Intervals, instants: Ints) -> Ints:
    """In which of the spans (sorted and disjoint) each instant lies; -1 for none."""
    at = np.searchsorted(spans[:, 0], instants, side="right") - 1
    if not len(spans):
        return at
    found: Ints = np.where((at >= 0) & (spans[at, 1] > instants), at, -1)
    return found


def _summed(rows: pa.Table) -> pa.Table:
    keys = _TABLE.names[:-1]
    return summed(rows, keys, ["duration"]).sort_by([(key, "ascending") for key in keys])


def _with_words(rows: pa.Table) -> pa.Table:
    for name in _WORDS:
        rows = rows.set_column(
            rows.column_names.index(name), name, rows[name].combine_chunks().dictionary_encode()
        )
    return rows
