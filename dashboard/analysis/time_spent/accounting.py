"""Time accounting: every nanosecond of a step window of a rank in exactly one category.

Which events claim time for which category, and which has it where several do, is in claims.py: the
categories partition the window, so that the sum is the window, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dashboard.analysis.intervals import measure, subtract, union, within
from dashboard.analysis.results import Result
from dashboard.analysis.steps import step_windows
from dashboard.analysis.time_spent.claims import (
    CATEGORIES,
    COMMUNICATION,
    IDLE,
    Claims,
    claims_of,
    divide,
)
from dashboard.runs.part import in_steps

if TYPE_CHECKING:
    from dashboard.runs import Recording

_TABLE: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("step", pa.int32()),
        ("category", pa.string()),
        ("duration", pa.int64()),
    ]
)
_OVERLAP: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("step", pa.int32()),
        ("dim", pa.string()),
        ("total_ns", pa.int64()),
        ("exposed_ns", pa.int64()),
    ]
)

_SPENT: Final = pa.schema([field for field in _TABLE if field.name != "step"])
_COURSE: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("category", pa.string()),
        ("start", pa.int64()),
        ("duration", pa.int64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class Accounting(Result):
    """Where the time of each rank and step went.

    table: rank, step, category, duration (ns); all of `CATEGORIES` for every rank and step.
    overlap: rank, step, dim, total_ns of communication and exposed_ns of it that no compute hid.
    windows: rank, step, start, duration (ns) of the step windows.
    """

    table: pa.Table
    overlap: pa.Table
    windows: pa.Table

    def share(self, category: str) -> float:
        """The category's part of all windows together; 0 if there are none."""
        whole = pc.sum(self.windows["duration"]).as_py() or 0
        mine = self.table.filter(pc.equal(self.table["category"], category))
        return (pc.sum(mine["duration"]).as_py() or 0) / whole if whole else 0.0


def account(run: Recording, steps: Collection[int] | None = None) -> Accounting:
    """Account for every step that is complete on all ranks (or those of `steps`)."""
    windows = step_windows(run, steps)
    parts, overlaps = [_TABLE.empty_table()], [_OVERLAP.empty_table()]
    for rank in run.ranks:
        mine = windows.filter(pc.equal(windows["rank"], rank))
        if mine.num_rows:
            claims = claims_of(in_steps(run, rank, mine["step"].to_pylist()), rank)
            parts.append(_shares(claims, mine))
            overlaps.append(_overlap(claims, mine))
    return Accounting(
        table=pa.concat_tables(parts).combine_chunks(),
        overlap=pa.concat_tables(overlaps).combine_chunks(),
        windows=windows,
    )


def course(run: Recording, step: int, ranks: Collection[int]) -> pa.Table:
    """When each of these ranks spent its time in `step` on what: rank, category, start and duration
    (ns, start from the first of their windows); all of a window, less what is idle.

    On rank 0, compute 0-10 and 15-20 in a window 0-30 → two rows; 10-15 and 20-30 are idle.
    """
    found = step_windows(run, [step])
    windows = found.filter(pc.is_in(found["rank"], pa.array(ranks, pa.int32())))
    first = pc.min(windows["start"]).as_py() or 0
    rows = []
    for window in windows.to_pylist():
        begin, end = window["start"], window["start"] + window["duration"]
        for category, taken in divide(
            claims_of(in_steps(run, window["rank"], [step]), window["rank"]), begin, end
        ):
            if category != IDLE:
                key = {"rank": window["rank"], "category": category}
                rows += [key | {"start": a - first, "duration": b - a} for a, b in taken.tolist()]
    return pa.Table.from_pylist(rows, schema=_COURSE)


def time_spent(run: Recording, begin: int, end: int, ranks: Collection[int]) -> pa.Table:
    """rank, category and duration (ns) of any stretch of time, not only of steps: for each of
    `ranks` all of `CATEGORIES`, which add up to `end - begin`.
    """
    rows = [
        {"rank": rank, "category": category, "duration": measure(taken)}
        for rank in ranks
        for category, taken in divide(claims_of(run, rank), begin, end)
    ]
    return pa.Table.from_pylist(rows, schema=_SPENT)


def _shares(claims: Claims, windows: pa.Table) -> pa.Table:
    """`_TABLE` of one rank. All of its time is divided once, and then measured window by window."""
    begin, end = _bounds(windows)
    taken = divide(claims, int(begin.min()), int(end.max()))
    spent = np.stack([within(part, begin, end) for _, part in taken], axis=1)
    return _by_window(windows, CATEGORIES, {"category": CATEGORIES, "duration": spent}, _TABLE)


def _overlap(claims: Claims, windows: pa.Table) -> pa.Table:
    """`_OVERLAP` of one rank: a row for each dimension that communicates in the window."""
    begin, end = _bounds(windows)
    hidden = union(claims.spans["compute"], claims.spans["optimizer"])
    total, exposed = [], []
    for category in COMMUNICATION:
        spans = claims.spans[category]
        total.append(within(spans, begin, end))
        exposed.append(within(subtract(spans, hidden), begin, end))
        hidden = union(hidden, spans)
    dims = [category.removeprefix("comm:") for category in COMMUNICATION]
    columns = {
        "dim": dims,
        "total_ns": np.stack(total, axis=1),
        "exposed_ns": np.stack(exposed, axis=1),
    }
    rows = _by_window(windows, dims, columns, _OVERLAP)
    return rows.filter(pc.greater(rows["total_ns"], 0))


def _bounds(windows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    begin = windows["start"].to_numpy()
    return begin, begin + windows["duration"].to_numpy()


def _by_window(
    windows: pa.Table, names: Sequence[str], columns: Mapping[str, Any], schema: pa.Schema
) -> pa.Table:
    """A row for each window and name: `columns` have a value per name, or one per window and name
    (shape windows × names).
    """
    count = windows.num_rows
    found = {name: np.repeat(windows[name].to_numpy(), len(names)) for name in ("rank", "step")}
    for name, values in columns.items():
        found[name] = values.ravel() if isinstance(values, np.ndarray) else list(values) * count
    return pa.table(found, schema=schema)
