"""`Recording`: what the files of a run hold, its events on one clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from collectors.memory_pool import from_the_system
from dashboard.runs.alignment import BY_MEETINGS, ClockAlignment, align
from dashboard.runs.caches import Fingerprint
from dashboard.runs.clock_map import ClockMap
from dashboard.runs.columns import ByColumn, Test, numbers
from dashboard.runs.counters import read_counters
from dashboard.runs.problems import Problem
from dashboard.runs.words import chosen, have
from tracer.arrays import number_array
from tracer.run_files import RankFacts, RunMeta
from tracer.schema import counters_file

Answer = TypeVar("Answer")

_ANSWERS_KEPT: Final = 24
"""Four analyses for three choices of steps, and the timeline's plans of eight steps. One page asks
the same question several times: its tables, its findings and its figures; answers never change,
and are small beside the events."""


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
        tables: the events of each rank, in order of `start`; may read them when asked.
        event_count: of all ranks.
        begin: the common clock's time, in ns, of the first event, from which `start` counts.
        files: the files that were read, as they were; None if they were not read as a whole.
        elsewhere: what answers in place of an analysis, if other processes are to work it out; it
            gives None for what they do not.
        source: where it was opened: the path, or an address on an object store, whose small files
            then lie in `path`.
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
        clock = align(tables, facts, clocks)
        aligned, begin = _aligned(tables, clock)
        self._keep(
            path=path,
            meta=meta,
            facts=facts,
            problems=problems + clock_problem(clock),
            clock=clock,
            begin=begin,
            tables=aligned,
            event_count=sum(table.num_rows for table in aligned.values()),
            steps=_complete_steps(aligned.values()),
            recorded_until={
                rank: int(clock.maps[rank].to_common(np.array([raw]))[0]) - begin
                for rank, raw in (until or {}).items()
            },
        )

    @classmethod
    def recalled(cls, **known: Any) -> Self:
        """A run of which everything but its events is known (opened.py): `tables` reads them when
        they are asked for.
        """
        run = cls.__new__(cls)
        run._keep(**known)
        return run

    def _keep(
        self,
        *,
        path: Path,
        meta: RunMeta,
        facts: Mapping[int, RankFacts],
        problems: tuple[Problem, ...],
        clock: ClockAlignment,
        begin: int,
        tables: Mapping[int, pa.Table],
        event_count: int,
        steps: tuple[int, ...],
        recorded_until: Mapping[int, int],
    ) -> None:
        self.path = path
        self.name = path.resolve().name
        self.meta = meta
        self.facts = dict(facts)
        self.problems = problems
        self.clock = clock
        self.begin = begin
        self.ranks = tuple(sorted(tables))
        self.tables = tables
        self.event_count = event_count
        self.steps = steps
        self.recorded_until = dict(recorded_until)
        self.files: Fingerprint | None = None
        self.source = str(path)
        self.elsewhere: Callable[[Callable[..., Any], tuple[int, ...]], Any] | None = None
        self._of_ranks: dict[tuple[Callable[..., Any], int], Any] = {}
        self.bring: Callable[[Collection[str]], None] = lambda names: None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name}: {len(self.ranks)} of {self.meta.world_size} "
            f"ranks, {len(self.steps)} steps, {self.event_count:,} events>"
        )

    def events(
        self,
        ranks: Collection[int] | None = None,
        steps: Collection[int] | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        lanes: Test | None = None,
    ) -> pa.Table:
        """Events, each rank's in order of `start`, with a column `rank` (int32) before the rest;
        of `lanes` those for whose name that is true.

        `start` is on the common clock, in ns since the first event of the run.
        """
        wanted = [rank for rank in self.ranks if ranks is None or rank in ranks]
        parts = [
            _select(self._rows(rank, steps, kinds, columns, lanes), steps, kinds, columns, lanes)
            for rank in wanted
        ]
        if not parts:
            none = self._rows(self.ranks[0], (), None, columns, None).slice(0, 0)
            parts = [_select(none, None, None, columns, None)]
        return pa.concat_tables(parts).unify_dictionaries()

    def _rows(
        self,
        rank: int,
        steps: Collection[int] | None,
        kinds: Collection[str] | None,
        columns: Collection[str] | None,
        lanes: Test | None,
    ) -> pa.Table:
        """A rank's events, or no less than what `events` chooses of them."""
        if columns is None or not isinstance(self.tables, ByColumn):
            return self.tables[rank]
        chooses = [
            *(("step",) if steps is not None else ()),
            *(("kind",) if kinds is not None else ()),
            *(("lane",) if lanes is not None else ()),
        ]
        return self.tables.part(rank, {*columns, *chooses}, steps, kinds, lanes)

    def answer(
        self,
        analysis: Callable[[Recording, Collection[int]], Answer],
        steps: Collection[int] | None = None,
    ) -> Answer:
        """What `analysis` says of those of `steps` that the run has (all by default); asked anew
        only if it is not among the last answers.
        """
        wanted = set(self.steps) if steps is None else set(steps)
        chosen = tuple(step for step in self.steps if step in wanted)
        if self.elsewhere is not None:
            told: Answer | None = self._told(self.elsewhere, analysis, chosen)
            if told is not None:
                return told
        found: Answer = self._answers(analysis, chosen)
        return found

    @staticmethod
    @from_the_system()
    def _told(
        elsewhere: Callable[[Callable[..., Any], tuple[int, ...]], Any],
        analysis: Callable[..., Any],
        steps: tuple[int, ...],
    ) -> Any:
        """By others, who keep their answers themselves."""
        found = elsewhere(analysis, steps)
        if found is not None:
            pa.default_memory_pool().release_unused()
        return found

    @from_the_system()
    def _ask(self, analysis: Callable[..., Any], steps: tuple[int, ...]) -> Any:
        found = analysis(self, steps)
        pa.default_memory_pool().release_unused()  # or the next one takes memory besides
        return found

    @cached_property
    def _answers(self) -> Callable[[Callable[..., Any], tuple[int, ...]], Any]:
        return lru_cache(_ANSWERS_KEPT)(self._ask)

    def answer_of_rank(self, analysis: Callable[[Recording, int], Answer], rank: int) -> Answer:
        """What `analysis` says of one rank; kept for all ranks, so it is to be a few words."""
        if (analysis, rank) not in self._of_ranks:
            self.tell_of_rank(analysis, rank, analysis(self, rank))
        found: Answer = self._of_ranks[analysis, rank]
        return found

    def tell_of_rank(
        self, analysis: Callable[[Recording, int], Answer], rank: int, answer: Answer
    ) -> None:
        """The same is known already, so that the rank need not be read for it."""
        # Threads may ask at once: the first answer stays, and a dict takes it in one go.
        self._of_ranks.setdefault((analysis, rank), answer)

    @cached_property
    def counters(self) -> pa.Table:
        """rank, ts (ns, as `start`), name (with its unit: `memory.allocated/bytes`), value."""
        maps = {rank: self.clock.maps[rank] for rank in self.ranks}
        self.bring([counters_file(rank) for rank in self.ranks])
        return read_counters(self.path, self.meta.run_id, maps, self.begin)

    @cached_property
    def duration_ns(self) -> int:
        """From the first event's start to the last event's end, over all ranks."""
        ends = (
            pc.max(pc.add(table["start"], table["duration"])).as_py()
            for table in (self.tables[rank] for rank in self.ranks)
        )
        return max((int(end) for end in ends if end is not None), default=0)


def on_common_clock(table: pa.Table, rank: int, clock: ClockMap, begin: int = 0) -> pa.Table:
    """A rank's events, a column `rank` before the others, in order of their start on the common
    clock, in ns since `begin`. Both ends of an event are put on it, so that what met still meets.
    """
    raw = numbers(table["start"])
    start = clock.to_common(raw)
    length = table["duration"]
    if len(clock.times) > 1:  # else all times are moved alike
        length = number_array(clock.to_common(raw + numbers(length)) - start)
    for name, values in (("start", number_array(start - begin)), ("duration", length)):
        table = table.set_column(table.schema.get_field_index(name), name, values)
    table = table.combine_chunks()
    if not bool((start[1:] >= start[:-1]).all()):
        table = table.take(number_array(np.argsort(start, kind="stable")))
    return table.add_column(0, "rank", number_array(np.full(table.num_rows, rank, np.int32)))


def _aligned(
    tables: Mapping[int, pa.Table], clock: ClockAlignment
) -> tuple[dict[int, pa.Table], int]:
    """Each rank's events by start, which counts from the first event of the run, and when that
    was.
    """
    aligned = {
        rank: on_common_clock(table, rank, clock.maps[rank]) for rank, table in tables.items()
    }
    begin = min((table["start"][0].as_py() for table in aligned.values() if len(table)), default=0)
    return {rank: _counted_from(table, begin) for rank, table in aligned.items()}, begin


def _counted_from(table: pa.Table, begin: int) -> pa.Table:
    index = table.schema.get_field_index("start")
    return table.set_column(index, "start", number_array(numbers(table["start"]) - begin))


def steps_of(table: pa.Table) -> set[int]:
    """The steps that have a window among the events."""
    windows = table.filter(have(table["kind"], ("step",)))
    return set(windows["step"].drop_null().to_pylist())


def _complete_steps(tables: Iterable[pa.Table]) -> tuple[int, ...]:
    found = [steps_of(table) for table in tables]
    return tuple(sorted(set.intersection(*found))) if found else ()


def _select(
    table: pa.Table,
    steps: Collection[int] | None,
    kinds: Collection[str] | None,
    columns: Collection[str] | None,
    lanes: Test | None,
) -> pa.Table:
    rows = chosen(table, steps, kinds, lanes)
    if columns is not None:
        table = table.select(list(dict.fromkeys(("rank", *columns))))
    return table if rows is None else table.filter(rows)


def clock_problem(clock: ClockAlignment) -> tuple[Problem, ...]:
    """What is to be known of an alignment that is not exact."""
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
