"""What a worker tells of one rank in some steps, and how that of all becomes the answers.

A part's summary is small beside its events: numbers per step, the actions of the pipeline, one row
per operation of communication. What lies across ranks is put together afterwards: collectives and
messages by joining (partial_communication.py), bubbles from the actions of a pipeline's ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth import Bandwidth, bandwidth_of, measure_bandwidth
from dashboard.analysis.communication.partial_communication import (
    PartialCommunication,
    joined,
    partial_communication,
)
from dashboard.analysis.operations import operations
from dashboard.analysis.pipeline.actions import Action, pipeline_actions
from dashboard.analysis.pipeline.bubbles import (
    Bubbles,
    Receives,
    joined_bubbles,
    measure_bubbles,
    pipeline_bubbles,
    receives,
)
from dashboard.analysis.time_spent.accounting import Accounting, account
from dashboard.analysis.time_spent.time_by_operation import time_by_operation
from dashboard.runs import Recording
from dashboard.runs.part import part_of
from dashboard.runs.reopening import Opening, reopened

Analysis: TypeAlias = Callable[..., Any]

SUMMARIZED: Final[tuple[Analysis, ...]] = (
    account,
    measure_bubbles,
    measure_bandwidth,
    time_by_operation,
)
"""The analyses that are put together from parts."""


@dataclass(kw_only=True, slots=True, frozen=True)
class PipelinePart:
    """Of one rank in some steps: its actions by step, and its receives."""

    rank: int
    actions: Mapping[int, Sequence[Action]]
    received: Receives


@dataclass(kw_only=True, slots=True, frozen=True)
class Summary:
    """Of some ranks in some steps; None where it was not asked for."""

    accounting: Accounting | None = None
    communication: PartialCommunication | None = None
    by_operation: pa.Table | None = None


def summarize(
    rank: int,
    steps: tuple[int, ...],
    chosen: tuple[int, ...],
    asked: Collection[str],
    opening: Opening,
) -> tuple[Summary, PipelinePart | None]:
    """One rank in `steps`, of the `chosen` steps of the run; `asked`: names of `SUMMARIZED`."""
    part = part_of(_run(opening), rank, steps)
    return Summary(
        accounting=account(part, steps) if account.__name__ in asked else None,
        communication=(
            _communication(part, steps, chosen) if measure_bandwidth.__name__ in asked else None
        ),
        by_operation=(
            time_by_operation(part, steps) if time_by_operation.__name__ in asked else None
        ),
    ), (
        PipelinePart(
            rank=rank,
            actions=pipeline_actions(part, steps),
            received=receives(part, rank, chosen),
        )
        if measure_bubbles.__name__ in asked
        else None
    )


def summary_of(found: tuple[Summary, PipelinePart | None]) -> Summary:
    """What of a part goes up the tree."""
    return found[0]


def pipeline_part_of(found: tuple[Summary, PipelinePart | None]) -> PipelinePart | None:
    """What of a part goes to its pipeline."""
    return found[1]


def joined_summaries(*parts: Summary) -> Summary:
    """Of several parts, in order of rank, and of step within a rank."""
    accounting = [part.accounting for part in parts if part.accounting is not None]
    communication = [part.communication for part in parts if part.communication is not None]
    by_operation = [part.by_operation for part in parts if part.by_operation is not None]
    return Summary(
        accounting=_joined_accounting(accounting) if accounting else None,
        communication=joined(communication) if communication else None,
        by_operation=pa.concat_tables(by_operation).combine_chunks() if by_operation else None,
    )


def bubbles_of(group: str, opening: Opening, *parts: PipelinePart) -> Bubbles:
    """Of the ranks of one pipeline in some steps."""
    actions: dict[int, list[Action]] = {step: [] for step in parts[0].actions}
    for part in parts:
        for step, mine in part.actions.items():
            actions[step] += mine
    for mine in actions.values():
        mine.sort(key=lambda action: (action.start, action.rank))
    received = {part.rank: part.received for part in parts}
    return pipeline_bubbles(_run(opening), group, actions, received)


def stacked_bubbles(*parts: Bubbles) -> Bubbles:
    """Of several pipelines and steps, in their order; `finished` puts them in order of step."""
    tables = {
        name: pa.concat_tables([getattr(part, name) for part in parts]).combine_chunks()
        for name in ("ranks", "stalls", "steps")
    }
    return Bubbles(**tables, theory=None)


def finished(run: Recording, summary: Summary, bubbles: Bubbles | None) -> dict[Analysis, Any]:
    """The answers by analysis."""
    found: dict[Analysis, Any] = {
        account: summary.accounting,
        time_by_operation: summary.by_operation,
        measure_bandwidth: _bandwidth(run, summary.communication),
        measure_bubbles: None if bubbles is None else joined_bubbles(run, [bubbles]),
    }
    return {analysis: answer for analysis, answer in found.items() if answer is not None}


def whole(analysis: Analysis, steps: tuple[int, ...], opening: Opening) -> Any:
    """An analysis that is not made of parts, asked of the whole run by one worker."""
    return _run(opening).answer(analysis, steps)


def given(opening: Opening) -> Opening:
    """The task that hands the run to the others."""
    return opening


@lru_cache(maxsize=2)
def _reopened(source: str, run_id: str, sizes: tuple[int, ...], opening: _ByIdentity) -> Recording:
    return reopened(opening.opening)


class _ByIdentity:
    """An opening that is told from others by what stands beside it."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity)

    def __hash__(self) -> int:
        return 0


def _run(opening: Opening) -> Recording:
    """The run, opened once per process."""
    sizes = tuple(number for facts in opening.seen.values() for number in facts)
    return _reopened(opening.source, opening.known.run_id, sizes, _ByIdentity(opening))


def _communication(
    part: Recording, steps: Sequence[int], chosen: Sequence[int]
) -> PartialCommunication:
    """Operations that were issued in `steps`; they may end in any of the `chosen` ones."""
    found = operations(part, chosen)
    mine = pc.is_in(found["step"], pa.array(sorted(steps), pa.int32()))
    return partial_communication(found.filter(mine))


def _joined_accounting(parts: Sequence[Accounting]) -> Accounting:
    tables = {
        field.name: pa.concat_tables([getattr(part, field.name) for part in parts]).combine_chunks()
        for field in fields(Accounting)
    }
    return Accounting(**tables)


def _bandwidth(run: Recording, found: PartialCommunication | None) -> Bandwidth | None:
    return None if found is None else bandwidth_of(run, found)
