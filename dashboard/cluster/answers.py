"""Answers that other processes work out: partitioned by ranks and steps, joined as a tree."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from dashboard.analysis.comparing.compared_sums import SumIn
from dashboard.analysis.pipeline.actions import pipelines
from dashboard.analysis.pipeline.bubbles import measure_bubbles
from dashboard.analysis.reduction import FAN_IN
from dashboard.analysis.stragglers.stragglers import find_stragglers
from dashboard.analysis.whole_run.findings import findings
from dashboard.analysis.whole_run.flops import flops_utilization
from dashboard.cluster.communication import add_shares, asks_for_bandwidth
from dashboard.cluster.pieces import (
    EVENTS_HERE,
    EVENTS_IN_TURN,
    EVENTS_PER_TASK,
    Piece,
    bundles,
    pieces_of,
)
from dashboard.cluster.places import Advance, InProcess, Place
from dashboard.cluster.replays import BY_REPLAY, add_findings, add_flops, add_replays
from dashboard.cluster.shelf import Shelf
from dashboard.cluster.summaries import (
    asks_for_bubbles,
    bubbles_of,
    finished,
    given,
    is_summarized,
    joined_summaries,
    of_ranks,
    pipeline_parts_of,
    stacked_bubbles,
    summarize,
    summary_of,
    whole,
)
from dashboard.cluster.tasks import Analysis, Task, tree
from dashboard.runs import Recording
from dashboard.runs.reopening import opening_of

_KEPT: Final = 4 << 20
"""Bytes of answers that stay in memory."""

Watch = Callable[[str, int], AbstractContextManager[Advance]]
"""Shows how many of so many tasks are done."""


class Elsewhere:
    """Answers `run.answer` by the work of other processes; install it as `run.elsewhere`.

    together: the analyses that are worked out at once when one of them is asked for; others are
        left to this process. In process, only those that are made of parts, and of the steps that
        are asked for first: for others it has no better way.
    steps_per_task: of how many steps of a rank one task takes care; by default as pieces.py says.
    """

    def __init__(
        self,
        run: Recording,
        place: Place,
        together: Sequence[Analysis],
        *,
        steps_per_task: int | None = None,
        watch: Watch = lambda what, total: nullcontext(lambda count: None),
    ) -> None:
        self._run = run
        self._place = place
        self._here = isinstance(place, InProcess)
        self._together = [a for a in together if is_summarized(a) or not self._here]
        self._steps_per_task = steps_per_task
        self._watch = watch
        self._known = Shelf(kept_bytes=_KEPT, may_hold_more=True)

    def __call__(self, analysis: Analysis, steps: tuple[int, ...]) -> Any:
        """The answer, or None if this process is to find it."""
        if analysis not in self._together or not steps or not self._run.ranks:
            return None
        if (analysis, steps) not in self._known:
            if self._here and self._known:
                return None
            self._known.update({(a, steps): told for a, told in self._asked(steps).items()})
        return self._known[analysis, steps]

    def _asked(self, steps: tuple[int, ...]) -> dict[Analysis, Any]:
        run = self._run
        asked = [analysis for analysis in self._together if is_summarized(analysis)]
        shared = run if self._here else opening_of(run)
        tasks = {"run": Task(call=given, arguments=(shared,))}
        alone: dict[Analysis, str] = {}
        by_replay = [analysis for analysis in self._together if analysis in BY_REPLAY]
        replays = add_replays(tasks, run, steps, by_replay) if by_replay else None
        if flops_utilization in self._together:
            alone[flops_utilization] = add_flops(tasks, run, steps)
        ends = _Ends()
        if asked:
            in_turn = self._here and all(isinstance(analysis, SumIn) for analysis in asked)
            most = EVENTS_IN_TURN if in_turn else EVENTS_HERE if self._here else EVENTS_PER_TASK
            pieces = pieces_of(
                run, steps, self._steps_per_task, len(pipelines(run)), most_events=most
            )
            ends = _partitioned(tasks, run, steps, asked, pieces, in_turn=in_turn)
        if replays is not None and find_stragglers in by_replay:
            alone[find_stragglers] = replays.stragglers
        if replays is not None and findings in by_replay:
            alone[findings] = add_findings(tasks, steps, replays, ends.bubbles)
        for analysis in self._together:
            if not is_summarized(analysis) and analysis not in alone:
                alone[analysis] = name = f"whole-{analysis.__name__}"
                tasks[name] = Task(call=whole, arguments=(analysis, steps), needs=("run",))
        wanted = [*alone.values(), *ends.names()]
        with self._watch(f"Analysing {run.name}", len(tasks)) as advance:
            done = self._place.do(tasks, wanted, advance)
        found = {analysis: done[name] for analysis, name in alone.items()}
        if ends.summary is not None:
            bubbles = None if ends.bubbles is None else done[ends.bubbles]
            matched = [done[name] for name in ends.matched]
            found |= finished(run, asked, done[ends.summary], bubbles, matched)
        return found


@dataclass(kw_only=True, slots=True, frozen=True)
class _Ends:
    """The tasks that have the joined summary, the bubbles of all pipelines, and what each share of
    communication comes to.
    """

    summary: str | None = None
    bubbles: str | None = None
    matched: Sequence[str] = ()

    def names(self) -> list[str]:
        return [name for name in (self.summary, self.bubbles, *self.matched) if name is not None]


def _partitioned(
    tasks: dict[str, Task],
    run: Recording,
    steps: tuple[int, ...],
    asked: Collection[Analysis],
    pieces: Sequence[Piece],
    *,
    in_turn: bool,
) -> _Ends:
    """Add the tasks for all ranks. in_turn: they are done one after the other, in their order, and
    tell only of sums, which add up in any grouping: each waits for few others.
    """
    groups = pipelines(run)
    windows = len({piece.place for piece in pieces})
    at_once = max(FAN_IN // windows, 1) + 1
    waiting: dict[int, list[str]] = {}
    for number, piece in enumerate(pieces):
        told = tuple(of_ranks(analysis, piece.ranks) for analysis in asked)
        arguments = (piece.ranks, piece.steps, steps, told)
        tasks[f"part-{number}"] = Task(call=summarize, arguments=arguments, needs=("run",))
        name = f"summary-{number}"
        tasks[name] = Task(call=summary_of, needs=(f"part-{number}",), picks=True)
        # by windows, since joined sums of one window are hardly larger than those of a part
        mine = waiting.setdefault(piece.place if in_turn else 0, [])
        mine.append(name)
        if in_turn and len(mine) == at_once:
            tasks[f"so-far-{number}"] = Task(call=joined_summaries, needs=tuple(mine))
            mine[:] = [f"so-far-{number}"]
    leaves = [name for mine in waiting.values() for name in mine]
    wants_bubbles = asks_for_bubbles(asked)
    actions = _add_picks_of_actions(tasks, pieces, groups) if wants_bubbles else []
    summary = tree(tasks, "joined", leaves, joined_summaries)
    matched = add_shares(tasks, run, pieces, asked) if asks_for_bandwidth(asked) else []
    if not wants_bubbles:
        return _Ends(summary=summary, matched=matched)
    of_pipelines = []
    for number, (chosen, needs) in enumerate(actions):
        of_pipelines.append(f"bubbles-{number}")
        tasks[of_pipelines[-1]] = Task(
            call=bubbles_of, arguments=(chosen, measure_bubbles in asked), needs=("run", *needs)
        )
    bubbles = tree(tasks, "pipelines", of_pipelines, stacked_bubbles)
    return _Ends(summary=summary, bubbles=bubbles, matched=matched)


def _add_picks_of_actions(
    tasks: dict[str, Task], pieces: Sequence[Piece], groups: Mapping[str, tuple[int, ...]]
) -> list[tuple[dict[str, tuple[int, ...]], list[str]]]:
    """Add what takes the actions of pipelines out of the parts. Pipelines whose ranks lie in the
    same parts come together: by name with their ranks, in each window of steps, and the tasks.
    """
    named = list(groups)
    found: list[tuple[dict[str, tuple[int, ...]], list[str]]] = []
    for numbers, places in bundles(pieces, groups.values()).items():
        chosen = {named[place]: groups[named[place]] for place in places}
        ranks = frozenset(rank for mine in chosen.values() for rank in mine)
        windows: dict[int, list[str]] = {}
        for number in numbers:
            pick = f"actions-{len(found)}-{number}"
            tasks[pick] = Task(
                call=pipeline_parts_of, arguments=(ranks,), needs=(f"part-{number}",), picks=True
            )
            windows.setdefault(pieces[number].place, []).append(pick)
        found += [(chosen, picks) for picks in windows.values()]
    return found
