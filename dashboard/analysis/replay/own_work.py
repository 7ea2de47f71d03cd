"""What a rank did by itself between two points of the dependency graph, cut by what it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.operations import category_of
from dashboard.analysis.rows_by_key import numbered, words_numbered
from dashboard.analysis.time_spent.kernels import category_of_operators, without_inner_operators
from dashboard.analysis.time_spent.leaves import innermost
from dashboard.runs.words import have, where
from tracer.schema import COMPUTE_KINDS, OPERATION_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

PIECES: Final = pa.schema(
    [
        ("edge", pa.int64()),
        ("start", pa.int64()),
        ("duration", pa.int64()),
        ("rank", pa.int32()),
        ("category", pa.string()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("step", pa.int32()),
        ("stage", pa.int32()),
        ("microbatch", pa.int32()),
    ]
)
_COLUMNS: Final = (
    "start", "duration", "kind", "name", "lane", "group", "step", "stage", "microbatch",
)  # fmt: skip


def innermost_spans(run: Recording, rank: int, within: Sequence[tuple[int, int]]) -> pa.Table:
    """What the rank's host did at every instant of the stretches `within` (ns): start and end, side
    by side and in order, and of the innermost span there its category (as in the accounting), kind,
    name, step, stage and microbatch. There is no row where it did nothing.
    """
    events = run.events(ranks=[rank], columns=_COLUMNS)
    start = events["start"].to_numpy()
    end = start + events["duration"].to_numpy()
    inside = np.zeros(len(start), np.bool_)
    for first, last in within:
        inside |= (start < last) & (end > first)
    on_host = where(events["lane"], lambda lanes: pc.starts_with(lanes, "host:"))
    a_span = pc.invert(have(events["kind"], ("step",)))
    chosen = pc.and_(pc.and_(on_host, a_span), pa.array(inside))
    spans = without_inner_operators(events.filter(chosen))
    begin = spans["start"].to_numpy()
    start, end, number = innermost(begin, begin + spans["duration"].to_numpy())
    described = spans.take(pa.array(number))
    return pa.table(
        {
            "start": start,
            "end": end,
            "category": _categories(
                described["kind"], described["group"], category_of_operators(run, rank)
            ),
            "kind": described["kind"].cast(pa.string()),
            "name": described["name"].cast(pa.string()),
            **{name: described[name] for name in ("step", "stage", "microbatch")},
        }
    ).combine_chunks()


def own_work(
    spans: pa.Table,
    rank: int,
    times: npt.NDArray[np.int64],
    own: npt.NDArray[np.bool_],
    *,
    first_edge: int = 0,
) -> pa.Table:
    """Pieces that tile those stretches between two `times` that are the rank's `own`.

    `spans`: its innermost ones. `times` has n + 1 instants, `own` n truth values. Columns: edge
    (`first_edge` + number of the stretch), start and duration (ns), rank, and of the innermost span
    at that time category, kind, name, step, stage, microbatch; kind `idle` where none was.
    """
    span_start, span_end = spans["start"].to_numpy(), spans["end"].to_numpy()
    cuts = np.unique(np.concatenate([times, span_start, span_end]))
    cuts = cuts[(cuts >= times[0]) & (cuts <= times[-1])]
    start, duration = cuts[:-1], np.diff(cuts)
    stretch = np.searchsorted(times, start, side="right") - 1
    at = np.searchsorted(span_start, start, side="right") - 1
    covered = (at >= 0) & (span_end[at] > start) if len(span_end) else np.zeros(len(at), bool)
    mine = own[stretch]
    start, duration, stretch = start[mine], duration[mine], stretch[mine]
    described = spans.take(pa.array(at[mine], mask=~covered[mine]))
    return pa.table(
        {
            "edge": stretch + first_edge,
            "start": start,
            "duration": duration,
            "rank": pa.array(np.full(len(start), rank, np.int32)),
            "category": pc.fill_null(described["category"], "idle"),
            "kind": pc.fill_null(described["kind"], "idle"),
            "name": pc.fill_null(described["name"], "no span"),
            **{name: described[name] for name in ("step", "stage", "microbatch")},
        },
        schema=PIECES,
    )


def _categories(kind: pa.ChunkedArray, group: pa.ChunkedArray, of_operators: str) -> pa.Array:
    kinds, of_kind = words_numbered(kind.cast(pa.string()))
    groups, of_group = words_numbered(group.cast(pa.string()))
    first, of = numbered(of_kind, of_group)
    found = [
        _category(str(kinds[k]), groups[g], of_operators)
        for k, g in zip(of_kind[first].tolist(), of_group[first].tolist(), strict=True)
    ]
    return pa.array(found, pa.string()).take(pa.array(of))


def _category(kind: str, group: str | None, of_operators: str) -> str:
    if kind == "kernel":
        return of_operators
    if kind in COMPUTE_KINDS:
        return "compute"
    if kind in OPERATION_KINDS:
        return category_of((group or "").partition(":")[0])
    return kind if kind in ("optimizer", "data") else "host"
