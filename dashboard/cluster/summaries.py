"""What a worker tells of some ranks in some steps, and how that of all becomes the answers.

A part's summary is small beside its events: numbers per step. What lies across ranks goes to where
it meets: actions to their pipeline, and operations of communication to their share of the groups
(communication.py), where they become sums.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import pyarrow as pa

from dashboard.analysis.communication.bandwidth import bandwidth_summary, measure_bandwidth
from dashboard.analysis.communication.partial_communication import PartialCommunication, joined
from dashboard.analysis.comparing.compared_sums import ComparedSums, SumIn, joined_sums
from dashboard.analysis.operations import operations
from dashboard.analysis.pipeline.actions import action_table
from dashboard.analysis.pipeline.bubbles import (
    Bubbles,
    Receives,
    joined_bubbles,
    measure_bubbles,
    pipeline_bubbles,
    receives_of,
)
from dashboard.analysis.pipeline.bubbles_by_rank import (
    BubblesByRank,
    added_by_rank,
    bubbles_by_rank,
    by_rank,
    finished_by_rank,
)
from dashboard.analysis.time_spent.accounting import Accounting, account
from dashboard.analysis.time_spent.spent_by_rank import (
    SpentByRank,
    joined_spent,
    spent_by_rank,
    spent_of,
)
from dashboard.cluster.communication import (
    Matched,
    add_told,
    asks_for_bandwidth,
    bandwidths,
    communication_of,
)
from dashboard.cluster.opened import opened
from dashboard.cluster.slack import give_back
from dashboard.cluster.tasks import Analysis
from dashboard.runs import Recording
from dashboard.runs.part import part_of
from dashboard.runs.reopening import Opening

SUMMARIZED: Final[tuple[Analysis, ...]] = (
    account,
    spent_by_rank,
    measure_bubbles,
    bubbles_by_rank,
    measure_bandwidth,
    bandwidth_summary,
)
"""The analyses that are put together from parts; `SumIn` is one, too."""


@dataclass(kw_only=True, slots=True, frozen=True)
class PipelinePart:
    """Of one rank in some steps: its actions (`action_table`), and its receives."""

    rank: int
    actions: pa.Table
    received: Receives


@dataclass(kw_only=True, slots=True, frozen=True)
class Summary:
    """Of some ranks in some steps; None where it was not asked for. compared: of each `SumIn` that
    was, in their order.
    """

    accounting: Accounting | None = None
    spent: SpentByRank | None = None
    compared: tuple[ComparedSums, ...] = ()


@dataclass(kw_only=True, slots=True, frozen=True)
class Found:
    """Of some ranks in some steps: what is joined with that of all others, what goes to their
    pipelines, by rank, and what goes to the shares of communication, by their places.
    """

    summary: Summary
    pipeline: Mapping[int, PipelinePart]
    communication: Mapping[int, PartialCommunication]


def summarize(
    ranks: tuple[int, ...],
    steps: tuple[int, ...],
    chosen: tuple[int, ...],
    asked: Collection[Analysis],
    opening: Opening | Recording,
) -> Found:
    """Some ranks, one after the other, in `steps`, of the `chosen` steps of the run; `asked`: those
    that are put together from parts.
    """
    run = opened(opening)
    summaries: list[Summary] = []
    actions: dict[int, PipelinePart] = {}
    told: dict[int, list[PartialCommunication]] = {}
    meets_others = asks_for_bubbles(asked) or asks_for_bandwidth(asked)
    for rank in ranks:
        part = part_of(run, rank, steps)
        summaries.append(_summary(part, steps, asked))
        issued = operations(part, chosen if meets_others else ())
        if asks_for_bubbles(asked):
            actions[rank] = PipelinePart(
                rank=rank,
                actions=action_table(part, steps),
                received=receives_of(issued),
            )
        if asks_for_bandwidth(asked):
            add_told(told, communication_of(run, issued, rank, steps))
        del part, issued
        give_back()
    return Found(
        summary=joined_summaries(*summaries),
        pipeline=actions,
        communication={place: joined(parts) for place, parts in told.items()},
    )


def _summary(part: Recording, steps: Collection[int], asked: Collection[Analysis]) -> Summary:
    accounting = account(part, steps) if account in asked or spent_by_rank in asked else None
    return Summary(
        accounting=accounting if account in asked else None,
        spent=spent_of(accounting) if accounting is not None and spent_by_rank in asked else None,
        compared=tuple(sums(part, steps) for sums in _sums_in(asked)),
    )


def summary_of(found: Found) -> Summary:
    """What of a part goes up the tree."""
    return found.summary


def pipeline_parts_of(ranks: Collection[int], found: Found) -> tuple[PipelinePart, ...]:
    """What of a part goes to the pipelines of these ranks."""
    return tuple(part for rank, part in found.pipeline.items() if rank in ranks)


def joined_summaries(*parts: Summary) -> Summary:
    """Of several parts, in order of rank, and of step within a rank."""
    accounting = [part.accounting for part in parts if part.accounting is not None]
    spent = [part.spent for part in parts if part.spent is not None]
    compared = zip(*(part.compared for part in parts), strict=True)
    return Summary(
        accounting=_joined_accounting(accounting) if accounting else None,
        spent=joined_spent(spent) if spent else None,
        compared=tuple(joined_sums(of_one) for of_one in compared),
    )


def is_summarized(analysis: Analysis) -> bool:
    """Whether it is put together from parts."""
    return analysis in SUMMARIZED or isinstance(analysis, SumIn)


def of_ranks(analysis: Analysis, ranks: Collection[int]) -> Analysis:
    """What of an analysis a part with these ranks is told."""
    return analysis.among(ranks) if isinstance(analysis, SumIn) else analysis


def asks_for_bubbles(asked: Collection[Analysis]) -> bool:
    """Whether these analyses are among those that need what pipelines come to."""
    return measure_bubbles in asked or bubbles_by_rank in asked


def bubbles_of(
    groups: Mapping[str, tuple[int, ...]],
    with_rows: bool,
    opening: Opening | Recording,
    *parts: Sequence[PipelinePart],
) -> Bubbles | BubblesByRank:
    """Of some pipelines, by name with their ranks, in some steps."""
    run = opened(opening)
    of_rank = {part.rank: part for told in parts for part in told}
    found: list[Bubbles | BubblesByRank] = []
    for group, ranks in groups.items():
        mine = [of_rank[rank] for rank in ranks]
        actions = pa.concat_tables([part.actions for part in mine]).unify_dictionaries()
        received = {part.rank: part.received for part in mine}
        bubbles = pipeline_bubbles(run, group, actions, received)
        found.append(bubbles if with_rows else by_rank(bubbles))
    return stacked_bubbles(*found)


def stacked_bubbles(*parts: Bubbles | BubblesByRank) -> Bubbles | BubblesByRank:
    """Of several pipelines and steps, all of one kind; `finished` puts them in order."""
    sums = [part for part in parts if isinstance(part, BubblesByRank)]
    if sums:
        return added_by_rank(sums)
    tables = {
        name: pa.concat_tables([getattr(part, name) for part in parts]).combine_chunks()
        for name in ("ranks", "stalls", "steps")
    }
    return Bubbles(**tables, theory=None)


def finished(
    run: Recording,
    asked: Collection[Analysis],
    summary: Summary,
    bubbles: Bubbles | BubblesByRank | None,
    matched: Sequence[Matched],
) -> dict[Analysis, Any]:
    """The answers by analysis; `asked`: those that are put together from parts."""
    found: dict[Analysis, Any] = {
        account: summary.accounting,
        spent_by_rank: summary.spent,
        **bandwidths(matched),
        **dict(zip(_sums_in(asked), summary.compared, strict=True)),
    }
    if isinstance(bubbles, Bubbles):
        found[measure_bubbles] = joined_bubbles(run, [bubbles])
        found[bubbles_by_rank] = by_rank(found[measure_bubbles])
    elif bubbles is not None:
        found[bubbles_by_rank] = finished_by_rank(run, bubbles)
    return {analysis: answer for analysis, answer in found.items() if answer is not None}


def whole(analysis: Analysis, steps: tuple[int, ...], opening: Opening) -> Any:
    """An analysis that is not made of parts, asked of the whole run by one worker."""
    return opened(opening).answer(analysis, steps)


def given(opening: Opening | Recording) -> Opening | Recording:
    """The task that hands the run to the others."""
    return opening


def _sums_in(asked: Collection[Analysis]) -> list[SumIn]:
    return [analysis for analysis in asked if isinstance(analysis, SumIn)]


def _joined_accounting(parts: Sequence[Accounting]) -> Accounting:
    tables = {
        field.name: pa.concat_tables([getattr(part, field.name) for part in parts]).combine_chunks()
        for field in fields(Accounting)
    }
    return Accounting(**tables)
