"""`Recording`: what the files of a run hold, its events on one clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.alignment import BY_MEETINGS, ClockAlignment, align
from dashboard.runs.counters import read_counters
from dashboard.runs.problems import Problem
from tracer.run_files import RankFacts, RunMeta

Answer = TypeVar("Answer")

_ANSWERS_KEPT: Final = 12
"""Four analyses for three choices of steps. One page asks the same question several times: its
tables, its findings and its figures; answers never change, and are small beside the events."""


class Recording:
    """A run as its files have it.

    Attributes:
        path, name: the directory, and its last part.
        meta: what `run.json` says; `facts[rank]`: what each rank says of itself.
        problems: what is missing or damaged; the rest is here.
        clock: how the ranks' clocks were aligned, and the bound of the error.
        ranks: the ranks whose events are here.
        steps: the steps that are complete on every one of them.
        recorded_until: for ranks that did not close their trace, the time (ns, as `start`) up to
            which their file tells everything.
    """

    def __init__(
        self,
        *,
        path: Path,
        meta: RunMeta,
        facts: Mapping[int, RankFacts],
        tables: Mapping[int, pa.Table],
        problems: tuple[Problem, ...],
        clocks: Mapping[int, pa.Table] | None = None,
        until: Mapping[int, int] | None = None,
    ) -> None:
        self.path = path
        self.name = path.resolve().name
        self.meta = meta
        self.facts = dict(facts)
        self.clock: ClockAlignment = align(tables, self.facts, clocks)
        self.problems = problems + _clock_problem(self.clock)
        self.ranks = tuple(sorted(tables))
        self._tables, begin = self._aligned(tables)
        self._begin = begin
        self.recorded_until = {
            rank: int(self.clock.maps[rank].to_common(np.array([raw]))[0]) - begin
            for rank, raw in (until or {}).items()
        }
        self.steps = self._complete_steps()

    def __repr__(self) -> str:
        events = sum(table.num_rows for table in self._tables.values())
        return (
            f"<{type(self).__name__} {self.name}: {len(self.ranks)} of {self.meta.world_size} "
            f"ranks, {len(self.steps)} steps, {events:,} events>"
        )

    def events(
        self,
        ranks: Collection[int] | None = None,
        steps: Collection[int] | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
    ) -> pa.Table:
        """Events, each rank's in order of `start`, with a column `rank` (int32) before the rest.

        `start` is on the common clock, in ns since the first event of the run.
        """
        chosen = [rank for rank in self.ranks if ranks is None or rank in ranks]
        parts = [_select(self._tables[rank], steps, kinds, columns) for rank in chosen]
        if not parts:
            parts = [_select(self._tables[self.ranks[0]].slice(0, 0), None, None, columns)]
        return pa.concat_tables(parts).unify_dictionaries()

    def answer(
        self,
        analysis: Callable[[Recording, Collection[int]], Answer],
        steps: Collection[int] | None = None,
    ) -> Answer:
        """What `analysis` says of those of `steps` that the run has (all by default); asked anew
        only if it is not among the last answers.
        """
        wanted = set(self.steps) if steps is None else set(steps)
        found: Answer = self._answers(analysis, tuple(s for s in self.steps if s in wanted))
        return found

    @cached_property
    def _answers(self) -> Callable[[Callable[..., Any], tuple[int, ...]], Any]:
        return lru_cache(_ANSWERS_KEPT)(lambda analysis, steps: analysis(self, steps))

    @cached_property
    def counters(self) -> pa.Table:
        """rank, ts (ns, as `start`), name (with its unit: `memory.allocated/bytes`), value."""
        maps = {rank: self.clock.maps[rank] for rank in self.ranks}
        return read_counters(self.path, self.meta.run_id, maps, self._begin)

    @cached_property
    def duration_ns(self) -> int:
        """From the first event's start to the last event's end, over all ranks."""
        table = self.events(columns=("start", "duration"))
        if table.num_rows == 0:
            return 0
        return int(pc.max(pc.add(table["start"], table["duration"])).as_py())

    def _aligned(self, tables: Mapping[int, pa.Table]) -> tuple[dict[int, pa.Table], int]:
        """Each rank's events by start, which counts from the first event of the run, and when
        that was.

        Both ends of an event are put on the common clock, so that what met still meets.
        """
        starts, ends = {}, {}
        for rank, table in tables.items():
            raw, clock = table["start"].to_numpy(), self.clock.maps[rank]
            starts[rank] = clock.to_common(raw)
            ends[rank] = clock.to_common(raw + table["duration"].to_numpy())
        begin = min((int(s.min()) for s in starts.values() if len(s)), default=0)
        aligned = {}
        for rank, table in tables.items():
            order = np.argsort(starts[rank], kind="stable")
            moved = table.take(pa.array(order))
            for name, values in (
                ("start", starts[rank] - begin),
                ("duration", ends[rank] - starts[rank]),
            ):
                index = table.schema.get_field_index(name)
                moved = moved.set_column(index, name, pa.array(values[order]))
            column = pa.array(np.full(table.num_rows, rank, np.int32))
            aligned[rank] = moved.add_column(0, "rank", column)
        return aligned, begin

    def _complete_steps(self) -> tuple[int, ...]:
        found = [
            set(_select(table, None, ("step",), ("step",))["step"].drop_null().to_pylist())
            for table in self._tables.values()
        ]
        return tuple(sorted(set.intersection(*found))) if found else ()


def _select(
    table: pa.Table,
    steps: Collection[int] | None,
    kinds: Collection[str] | None,
    columns: Collection[str] | None,
) -> pa.Table:
    if steps is not None:
        table = table.filter(pc.is_in(table["step"], pa.array(list(steps), pa.int32())))
    if kinds is not None:
        kind = table["kind"].cast(pa.string())
        table = table.filter(pc.is_in(kind, pa.array(list(kinds), pa.string())))
    if columns is not None:
        table = table.select(list(dict.fromkeys(("rank", *columns))))
    return table


def _clock_problem(clock: ClockAlignment) -> tuple[Problem, ...]:
    if clock.bound_ns is None:
        said = (
            "the ranks ran on several hosts, nothing was exchanged between their clocks, and "
            "they share no collective: times of different ranks do not compare"
        )
    elif clock.method == BY_MEETINGS:
        said = (
            "the ranks ran on several hosts, and for some no exchange between the clocks was "
            "recorded: they are aligned on the ends of collectives, to within "
            f"{clock.bound_ns / 1e3:,.1f} µs"
        )
    else:
        return ()
    return (Problem(file="clock", message=said),)
