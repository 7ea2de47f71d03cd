"""The critical path of each step: what every nanosecond of it was spent on, across ranks.

Step n lasts from the end of step n-1 on the last rank to reach it to the end of step n on the
last rank to reach it, so that steps that follow each other tile the run; where the one before was
not recorded, it lasts from its own begin on the first rank. The path is walked backwards from there
(backward_walk.py); its segments tile the step, so its length *is* the step time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.device_view import as_devices_ran
from dashboard.analysis.operations import category_of, operations
from dashboard.analysis.replay.backward_walk import TRANSFER, Segment, walk
from dashboard.analysis.replay.dependencies import dependencies
from dashboard.analysis.replay.replay import measured_step_times
from dashboard.analysis.replay.replayed_steps import replayed_steps
from dashboard.analysis.replay.reservations import reservations
from dashboard.analysis.results import Result
from dashboard.analysis.steps import chained
from dashboard.analysis.time_spent.kernels import category_of_operators, without_inner_operators
from dashboard.analysis.time_spent.leaves import Piece, leaves
from tracer.schema import COMPUTE_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

_SEGMENTS: Final = pa.schema(
    [
        ("step", pa.int32()),
        ("rank", pa.int32()),
        ("start", pa.int64()),
        ("duration", pa.int64()),
        ("category", pa.string()),
        ("name", pa.string()),
        ("stage", pa.int32()),
        ("microbatch", pa.int32()),
        ("cause_rank", pa.int32()),
    ]
)
_STEPS: Final = pa.schema([("step", pa.int32()), ("start", pa.int64()), ("length_ns", pa.int64())])
_SUMMARY: Final = pa.schema(
    [
        ("category", pa.string()),
        ("rank", pa.int32()),
        ("stage", pa.int32()),
        ("name", pa.string()),
        ("ns_per_step", pa.float64()),
        ("share", pa.float64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class CriticalPath(Result):
    """The path of each step, and where its time went.

    segments: step, rank, start, duration (ns), category (as in the accounting), name, stage,
        microbatch; cause_rank where the rank waited for what that rank sent or joined.
    steps: step, start, length_ns; the segments of a step add up to its length.
    summary: category, rank, stage, name, ns_per_step, share of the path; the largest first.
    notes: what makes it less sure.
    """

    segments: pa.Table
    steps: pa.Table
    summary: pa.Table
    notes: tuple[str, ...]


def critical_path(run: Recording, steps: Collection[int] | None = None) -> CriticalPath:
    """The critical path of all complete steps, or of those of `steps`; of very many, of some
    stretches (replayed_steps.py). Where devices did the work, it is theirs (device_view.py).
    """
    replayed = replayed_steps(run, steps)
    run = as_devices_ran(run)
    followed = replayed.steps
    if not replayed.are_all:  # the steps that a replay tells of, so that both speak of the same
        followed = measured_step_times(run, followed).steps
    spans = _spans(run, followed)
    issued = operations(run, within=spans)
    lanes: dict[int, _Lane] = {}
    rows: list[dict[str, Any]] = []
    lengths: list[dict[str, Any]] = []
    for step, begin, end, segments in walk_steps(run, issued, followed):
        lengths.append({"step": step, "start": begin, "length_ns": end - begin})
        for segment in segments:
            if segment.rank not in lanes:
                lanes[segment.rank] = _Lane(run, segment.rank, spans)
            rows += [{"step": step} | row for row in _described(segment, lanes, issued)]
    return CriticalPath(
        segments=pa.Table.from_pylist(rows, schema=_SEGMENTS),
        steps=pa.Table.from_pylist(lengths, schema=_STEPS),
        summary=_summary(rows, len(lengths)),
        notes=(*replayed.notes(len(followed)), *reservations(run)),
    )


def walk_steps(
    run: Recording, issued: pa.Table, steps: Collection[int] | None = None
) -> Iterator[tuple[int, int, int, list[Segment]]]:
    """step, begin, end (ns) and the path's segments, of all complete steps or those of `steps`;
    `issued`: `operations(run)`.
    """
    waits = dependencies(issued)
    for step, begin, end, rank in _boundaries(run):
        if steps is None or step in steps:
            yield step, begin, end, walk(waits, rank=rank, begin=begin, end=end)


def _spans(run: Recording, steps: Collection[int]) -> list[tuple[int, int]]:
    """The stretches of time (ns) in which lies all that the paths of these steps depend on: each
    with the step before it, since what ends a wait may have begun there, and the first step of the
    run with all before it.
    """
    found: list[tuple[int, int]] = []
    before = np.iinfo(np.int64).min
    for step, begin, end, _ in _boundaries(run):
        if step in steps:
            if found and before <= found[-1][1]:
                found[-1] = (found[-1][0], end)
            else:
                found.append((before, end))
        before = begin
    return found


def _boundaries(run: Recording) -> Iterator[tuple[int, int, int, int]]:
    """step, begin, end (ns) and the rank that ends last, for each complete step."""
    for chain in chained(run, None):
        before: int | None = None
        for step, ranks in chain.by_step.items():
            end, rank = max((span[1], -rank) for rank, span in ranks.items())
            begin = min(start for start, _ in ranks.values()) if before is None else before
            yield step, begin, end, -rank
            before = end


class _Lane:
    """What one rank's host did at every instant of these stretches of time: its spans, cut into
    innermost pieces.
    """

    def __init__(self, run: Recording, rank: int, within: Sequence[tuple[int, int]]) -> None:
        columns = ("start", "duration", "kind", "name", "lane", "group", "stage", "microbatch")
        events = _reaching_into(run.events(ranks=[rank], columns=columns), within)
        on_host = pc.starts_with(events["lane"].cast(pa.string()), "host:")
        a_span = pc.not_equal(events["kind"].cast(pa.string()), "step")
        host = without_inner_operators(events.filter(pc.and_(on_host, a_span)))
        self.rows = host.to_pylist()
        self.of_operators = category_of_operators(run, rank)
        spans = [(row["start"], row["start"] + row["duration"]) for row in self.rows]
        self.pieces = leaves(spans)
        self._starts = [piece.start for piece in self.pieces]

    def between(self, begin: int, end: int) -> Iterator[tuple[int, int, dict[str, Any] | None]]:
        """Pieces that tile [begin, end); None where no span was open."""
        now = begin
        for piece in self._from(begin):
            if piece.start >= end:
                break
            if piece.end <= now:
                continue
            if piece.start > now:
                yield now, piece.start, None
                now = piece.start
            until = min(piece.end, end)
            yield now, until, self.rows[piece.span]
            now = until
        if now < end:
            yield now, end, None

    def _from(self, begin: int) -> Iterator[Piece]:
        first = max(bisect_right(self._starts, begin) - 1, 0)
        return (self.pieces[index] for index in range(first, len(self.pieces)))


def _reaching_into(events: pa.Table, within: Sequence[tuple[int, int]]) -> pa.Table:
    start = events["start"].to_numpy()
    end = start + events["duration"].to_numpy()
    found = np.zeros(len(start), np.bool_)
    for first, last in within:
        found |= (start < last) & (end > first)
    return events.filter(pa.array(found))


def _described(
    segment: Segment, lanes: dict[int, _Lane], issued: pa.Table
) -> Iterator[dict[str, Any]]:
    if segment.what == TRANSFER and segment.operation is not None:
        row = issued.slice(segment.operation, 1).to_pylist()[0]
        yield {
            "rank": segment.rank,
            "start": segment.start,
            "duration": segment.duration,
            "category": category_of(row["dim"]),
            "name": row["op"],
            "stage": row["stage"],
            "microbatch": row["microbatch"],
            "cause_rank": segment.cause_rank,
        }
        return
    for begin, end, span in lanes[segment.rank].between(segment.start, segment.end):
        common = {"rank": segment.rank, "start": begin, "duration": end - begin}
        if span is None:
            yield common | {"category": "idle", "name": "no span"}
        else:
            yield common | {
                "category": _category(span, lanes[segment.rank].of_operators),
                "name": span["name"],
                "stage": span["stage"],
                "microbatch": span["microbatch"],
            }


def _category(span: dict[str, Any], of_operators: str) -> str:
    if span["kind"] == "kernel":
        return of_operators
    if span["kind"] in COMPUTE_KINDS:
        return "compute"
    if span["kind"] in ("collective", "send", "recv", "wait"):
        return category_of((span["group"] or "").partition(":")[0])
    return span["kind"] if span["kind"] in ("optimizer", "data") else "host"


def _summary(rows: list[dict[str, Any]], steps: int) -> pa.Table:
    totals: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in rows:
        totals[row["category"], row["rank"], row.get("stage"), row["name"]] += row["duration"]
    whole = sum(totals.values())
    found = [
        dict(zip(_SUMMARY.names, (*key, spent / steps, spent / whole), strict=True))
        for key, spent in sorted(totals.items(), key=lambda item: -item[1])
        if spent
    ]
    return pa.Table.from_pylist(found, schema=_SUMMARY)
