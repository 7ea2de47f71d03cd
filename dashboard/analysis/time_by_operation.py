"""Where each rank's step time went, by operation: which span was the innermost at every instant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.leaves import leaves
from dashboard.analysis.operations import category_of
from dashboard.analysis.steps import step_windows
from tracer.schema import COMMUNICATION_KINDS, COMPUTE_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

OTHERWISE: Final = "no operation"
"""The name of the time in which none was under way."""

_COLUMNS: Final = ("start", "duration", "kind", "name", "lane", "group", "stage")
_KINDS: Final = (*COMPUTE_KINDS, "optimizer", *COMMUNICATION_KINDS, "wait", "data")
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
_Key: TypeAlias = tuple[int, str, str, str, int | None]


def time_by_operation(run: Recording, steps: Collection[int] | None = None) -> pa.Table:
    """Columns rank, step, category, kind, name, stage, duration (ns), for complete steps.

    The rows of a rank and step add up to its window. Operations on the device count where the rank
    has work there, else those on the host. A wait inside a forward is the wait's time, not the
    forward's; where operations merely overlap, the one that began last has the time. What carries
    no stage is of its rank's stage, if the rank holds one.

    Before (events of one step, 0..20)     After
    forward F  stage 0   0..10             compute forward F, stage 0      6
    wait recv  stage 0   4..8              comm:pp wait recv, stage 0      4
                                           idle, no operation, stage 0    10
    """
    windows = step_windows(run, steps)
    rows: list[dict[str, Any]] = []
    for rank in run.ranks:
        mine = windows.filter(pc.equal(windows["rank"], rank)).to_pylist()
        held = run.facts[rank].stages
        only = held[0] if len(held) == 1 else None
        for (*operation, stage), spent in _spent(_lane(run, rank), mine).items():
            values = (rank, *operation, only if stage is None else stage, spent)
            rows.append(dict(zip(_TABLE.names, values, strict=True)))
    return _summed(pa.Table.from_pylist(rows, schema=_TABLE))


def _summed(rows: pa.Table) -> pa.Table:
    keys = _TABLE.names[:-1]
    summed = rows.group_by(keys, use_threads=False).aggregate([("duration", "sum")])
    return summed.select([*keys, "duration_sum"]).rename_columns(_TABLE.names)


def _lane(run: Recording, rank: int) -> list[dict[str, Any]]:
    events = run.events(ranks=[rank], kinds=_KINDS, columns=_COLUMNS)
    on_device = pc.starts_with(events["lane"].cast(pa.string()), "device:")
    works = pc.is_in(
        events["kind"].cast(pa.string()), pa.array((*COMPUTE_KINDS, "optimizer"), pa.string())
    )
    if pc.any(pc.and_(on_device, works)).as_py():
        return list(events.filter(on_device).to_pylist())
    return list(events.to_pylist())


def _spent(spans: list[dict[str, Any]], windows: Iterable[dict[str, Any]]) -> dict[_Key, int]:
    """ns by step and operation."""
    pieces = leaves([(span["start"], span["start"] + span["duration"]) for span in spans])
    spent: dict[_Key, int] = defaultdict(int)
    first = 0
    for window in windows:
        begin, end = window["start"], window["start"] + window["duration"]
        while first < len(pieces) and pieces[first].end <= begin:
            first += 1
        left = end - begin
        for piece in pieces[first:]:
            if piece.start >= end:
                break
            inside = min(piece.end, end) - max(piece.start, begin)
            spent[window["step"], *_operation(spans[piece.span])] += inside
            left -= inside
        spent[window["step"], "idle", "", OTHERWISE, None] += left
    return spent


def _operation(span: dict[str, Any]) -> tuple[str, str, str, int | None]:
    kind, name, stage = str(span["kind"]), span["name"] or "", span["stage"]
    if kind in COMPUTE_KINDS:
        return "compute", kind, name, stage
    if kind in ("optimizer", "data"):
        return kind, kind, name, stage
    return category_of((span["group"] or "").partition(":")[0]), kind, name, stage
