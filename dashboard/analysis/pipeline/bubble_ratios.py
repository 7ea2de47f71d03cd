"""The bubble of each step, the mean over pipelines, from three numbers of each of them: no action
is kept, and parts of a run may be joined in any grouping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from dashboard.analysis.pipeline.actions import action_table, pipeline_of
from dashboard.analysis.pipeline.gaps import gaps_of
from dashboard.analysis.rows_by_key import Floats, Ints
from dashboard.runs.columns import distinct

if TYPE_CHECKING:
    from dashboard.runs import Recording

_LATEST: Final = np.iinfo(np.int64).max
_EARLIEST: Final = np.iinfo(np.int64).min


@dataclass(kw_only=True, slots=True, frozen=True)
class PipelineSteps:
    """Of some ranks' actions, by pipeline and step, each of shape (pipelines, steps), in ns: begin
    of the first and end of the last of them (begin after end where there are none), and for how
    long the ranks were busy, together. steps: ascending.
    """

    pipelines: tuple[str, ...]
    steps: Ints
    begin: Ints
    end: Ints
    busy: Ints


def pipeline_steps(run: Recording, rank: int, steps: Collection[int]) -> PipelineSteps:
    """Of one rank, in those of `steps` in which it has actions.

    Actions 0-10 and 15-20 of step 3 → begin 0, end 20, busy 15
    """
    gaps = gaps_of(action_table(run, steps, [rank]), [rank])
    return PipelineSteps(
        pipelines=(pipeline_of(run, rank),),
        steps=gaps.steps.astype(np.int64),
        begin=gaps.begin[None, :],
        end=gaps.end[None, :],
        busy=(gaps.last - gaps.first - gaps.stalls).T,
    )


def joined_pipelines(parts: Sequence[PipelineSteps]) -> PipelineSteps:
    """Of several ranks and steps."""
    names = [name for part in parts for name in part.pipelines]
    place = {name: n for n, name in enumerate(sorted(set(names)))}
    steps = distinct(np.concatenate([np.zeros(0, np.int64), *(part.steps for part in parts)]))
    shape = (len(place), len(steps))
    begin, end = np.full(shape, _LATEST), np.full(shape, _EARLIEST)
    busy = np.zeros(shape, np.int64)
    for part in parts:
        rows = np.array([place[name] for name in part.pipelines], np.int64)
        cells = np.ix_(rows, np.searchsorted(steps, part.steps))
        begin[cells] = np.minimum(begin[cells], part.begin)
        end[cells] = np.maximum(end[cells], part.end)
        busy[cells] += part.busy
    return PipelineSteps(pipelines=tuple(place), steps=steps, begin=begin, end=end, busy=busy)


def bubble_ratios(run: Recording, found: PipelineSteps, steps: Sequence[int]) -> Floats | None:
    """In each of `steps` the mean over the pipelines of the run of bubble / window, as
    `Bubbles.steps` has it; None where a step has no pipeline.

    Two ranks, window 0-20, busy 15 and 13 → (40 - 28) / 40
    """
    known = np.isin(steps, found.steps)
    if not len(steps) or not known.all():
        return None
    sizes = Counter(pipeline_of(run, rank) for rank in run.ranks)
    ranks = np.array([sizes[name] for name in found.pipelines], np.int64)[:, None]
    of = np.searchsorted(found.steps, np.array(steps, np.int64))
    begin, end = found.begin[:, of], found.end[:, of]
    window = ranks * np.where(begin < end, end - begin, 0)
    some = window > 0
    if not some.any(axis=0).all():
        return None
    bubble = np.where(some, window - found.busy[:, of], 0) / np.where(some, window, 1)
    means: Floats = bubble.sum(axis=0) / some.sum(axis=0)
    return means
