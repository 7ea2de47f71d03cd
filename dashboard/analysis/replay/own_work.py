"""What a rank did by itself between two points of the dependency graph, cut by what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.operations import category_of
from dashboard.analysis.time_spent.kernels import category_of_operators, without_inner_operators
from dashboard.analysis.time_spent.leaves import leaves
from tracer.schema import COMMUNICATION_KINDS, COMPUTE_KINDS

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


def own_work(
    run: Recording,
    rank: int,
    times: npt.NDArray[np.int64],
    own: npt.NDArray[np.bool_],
    *,
    first_edge: int = 0,
) -> pa.Table:
    """Pieces that tile those stretches between two `times` that are the rank's `own`.

    `times` has n + 1 instants, `own` n truth values. Columns: edge (`first_edge` + number of the
    stretch), start and duration (ns), rank, category (as in the accounting), and of the innermost
    span of the host at that time kind, name, step, stage, microbatch; kind `idle` where none was.
    """
    events = run.events(ranks=[rank], columns=_COLUMNS)
    on_host = pc.starts_with(events["lane"].cast(pa.string()), "host:")
    a_span = pc.not_equal(events["kind"].cast(pa.string()), "step")
    inside = pc.and_(
        pc.less(events["start"], int(times[-1])),
        pc.greater(pc.add(events["start"], events["duration"]), int(times[0])),
    )
    spans = without_inner_operators(events.filter(pc.and_(pc.and_(on_host, a_span), inside)))
    begin = spans["start"].to_numpy()
    end = begin + spans["duration"].to_numpy()
    innermost = leaves(list(zip(begin.tolist(), end.tolist(), strict=True)))
    piece_start = np.array([piece.start for piece in innermost], np.int64)
    piece_end = np.array([piece.end for piece in innermost], np.int64)
    piece_span = np.array([piece.span for piece in innermost], np.int64)

    cuts = np.unique(np.concatenate([times, piece_start, piece_end]))
    cuts = cuts[(cuts >= times[0]) & (cuts <= times[-1])]
    start, duration = cuts[:-1], np.diff(cuts)
    stretch = np.searchsorted(times, start, side="right") - 1
    at = np.searchsorted(piece_start, start, side="right") - 1
    covered = (at >= 0) & (piece_end[at] > start) if len(piece_end) else np.zeros(len(at), bool)
    span = np.where(covered, piece_span[at] if len(piece_span) else 0, -1)
    mine = own[stretch]
    start, duration, stretch, span = start[mine], duration[mine], stretch[mine], span[mine]
    described = spans.take(pa.array(span, mask=span < 0))
    kind = described["kind"].cast(pa.string())
    return pa.table(
        {
            "edge": stretch + first_edge,
            "start": start,
            "duration": duration,
            "rank": pa.array(np.full(len(start), rank, np.int32)),
            "category": _categories(kind, described["group"], category_of_operators(run, rank)),
            "kind": pc.fill_null(kind, "idle"),
            "name": pc.fill_null(described["name"].cast(pa.string()), "no span"),
            "step": described["step"],
            "stage": described["stage"],
            "microbatch": described["microbatch"],
        },
        schema=PIECES,
    )


def _categories(kind: pa.ChunkedArray, group: pa.ChunkedArray, of_operators: str) -> pa.Array:
    pairs = zip(kind.to_pylist(), group.cast(pa.string()).to_pylist(), strict=True)
    return pa.array([_category(k, g, of_operators) for k, g in pairs], pa.string())


def _category(kind: str | None, group: str | None, of_operators: str) -> str:
    if kind is None:
        return "idle"
    if kind == "kernel":
        return of_operators
    if kind in COMPUTE_KINDS:
        return "compute"
    if kind in (*COMMUNICATION_KINDS, "wait"):
        return category_of((group or "").partition(":")[0])
    return kind if kind in ("optimizer", "data") else "host"
