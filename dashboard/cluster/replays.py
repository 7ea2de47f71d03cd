"""Tasks for what is found by replay (stragglers, findings), and for step times and FLOPs.

Each rank's part of the dependency graph is found by itself, some ranks in a task; then the graph of
each stretch of steps, from the parts of all ranks. Who holds up the others is told from the graphs
of all stretches, which are small beside the events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Final

from dashboard.analysis.pipeline.bubbles import Bubbles, joined_bubbles
from dashboard.analysis.pipeline.bubbles_by_rank import (
    BubblesByRank,
    bubbles_by_rank,
    by_rank,
    finished_by_rank,
)
from dashboard.analysis.replay.graph import Graph, dependency_graph, graph_of, joined_graphs
from dashboard.analysis.replay.other_plans import (
    OtherPlans,
    has_plans,
    other_plans,
    usual_other_plans,
)
from dashboard.analysis.replay.replayed_steps import Stretch, replayed_steps
from dashboard.analysis.replay.strands import Strands, strands_of
from dashboard.analysis.stragglers.stragglers import Stragglers, find_stragglers
from dashboard.analysis.whole_run.findings import Finding, findings
from dashboard.analysis.whole_run.flops import (
    FlopsPart,
    FlopsUtilization,
    flops_of,
    flops_part,
)
from dashboard.cluster.opened import opened
from dashboard.cluster.tasks import Analysis, Task
from dashboard.runs import Recording
from dashboard.runs.reopening import Opening

BY_REPLAY: Final[tuple[Analysis, ...]] = (find_stragglers, findings)
"""The analyses that are put together from the graphs of stretches."""
RANKS_PER_TASK: Final = 8
"""Of so many ranks a task finds the parts of the graph: some ten thousand events each."""


def add_flops(tasks: dict[str, Task], run: Recording, steps: tuple[int, ...]) -> str:
    """Add the tasks for `flops_utilization`; the name of the one that has it."""
    parts = []
    for number, ranks in enumerate(_groups(run.ranks)):
        parts.append(f"flops-{number}")
        tasks[parts[-1]] = Task(call=_flops_part, arguments=(ranks, steps), needs=("run",))
    tasks["flops"] = Task(call=_flops, needs=("run", *parts))
    return "flops"


@dataclass(kw_only=True, slots=True, frozen=True)
class Replays:
    """The tasks that have the graphs of all stretches, the stragglers and other plans (None where
    nobody asks for them).
    """

    graphs: tuple[str, ...]
    stragglers: str
    plans: str | None


def add_replays(
    tasks: dict[str, Task], run: Recording, steps: tuple[int, ...], asked: Collection[Analysis]
) -> Replays:
    """Add the tasks for those of `BY_REPLAY` that are asked for, but for findings (below)."""
    graphs = _add_graphs(tasks, run, replayed_steps(run, steps).stretches)
    tasks["stragglers"] = Task(call=_stragglers, arguments=(steps,), needs=("run", *graphs))
    if findings in asked:
        tasks["plans"] = Task(call=_plans, arguments=(steps,), needs=("run", *graphs))
    plans = "plans" if findings in asked else None
    return Replays(graphs=graphs, stragglers="stragglers", plans=plans)


def add_findings(
    tasks: dict[str, Task], steps: tuple[int, ...], replays: Replays, bubbles: str | None
) -> str:
    """Add the task for findings; its name. bubbles: the task that has those of all pipelines, if
    there is one.
    """
    others = [name for name in (replays.plans, bubbles) if name is not None]
    needs = ("run", replays.stragglers, *others, *replays.graphs)
    tasks["findings"] = Task(call=_findings, arguments=(steps,), needs=needs)
    return "findings"


def _add_graphs(
    tasks: dict[str, Task], run: Recording, stretches: Sequence[Stretch]
) -> tuple[str, ...]:
    groups = list(_groups(run.ranks))
    for number, ranks in enumerate(groups):
        arguments = (ranks, tuple(stretches))
        tasks[f"strands-{number}"] = Task(call=_strands, arguments=arguments, needs=("run",))
    graphs = []
    for place in range(len(stretches)):
        parts = []
        for number in range(len(groups)):
            parts.append(f"strands-{number}-{place}")
            tasks[parts[-1]] = Task(
                call=_one_of, arguments=(place,), needs=(f"strands-{number}",), picks=True
            )
        graphs.append(f"graph-{place}")
        tasks[graphs[-1]] = Task(call=_graph, needs=tuple(parts))
    return tuple(graphs)


def _groups(ranks: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(ranks[at : at + RANKS_PER_TASK]) for at in range(0, len(ranks), RANKS_PER_TASK)]


def _strands(
    ranks: tuple[int, ...], stretches: tuple[Stretch, ...], opening: Opening
) -> list[dict[int, Any]]:
    return strands_of(opened(opening), ranks, stretches)


def _one_of(place: int, found: Sequence[Strands]) -> Strands:
    return found[place]


def _graph(*parts: Strands) -> Graph:
    return graph_of({rank: strand for part in parts for rank, strand in part.items()})


def _stragglers(steps: tuple[int, ...], opening: Opening, *graphs: Graph) -> Stragglers:
    known = {(dependency_graph, steps): joined_graphs(graphs)}
    return find_stragglers(_knowing(opened(opening), known), steps)


def _plans(steps: tuple[int, ...], opening: Opening, *graphs: Graph) -> OtherPlans | None:
    run = opened(opening)
    if not run.answer(has_plans):
        return None
    return other_plans(run, None, steps, graph=joined_graphs(graphs))


def _findings(
    steps: tuple[int, ...],
    opening: Opening,
    stragglers: Stragglers,
    plans: OtherPlans | None,
    *parts: Graph | Bubbles | BubblesByRank,
) -> list[Finding]:
    run = opened(opening)
    known: dict[tuple[Analysis, tuple[int, ...]], Any] = {
        (dependency_graph, steps): joined_graphs(p for p in parts if isinstance(p, Graph)),
        (find_stragglers, steps): stragglers,
        (usual_other_plans, steps): plans,
        (has_plans, run.steps): plans is not None,
    }
    for part in parts:
        if isinstance(part, Bubbles):
            known[bubbles_by_rank, steps] = by_rank(joined_bubbles(run, [part]))
        elif isinstance(part, BubblesByRank):
            known[bubbles_by_rank, steps] = finished_by_rank(run, part)
    return findings(_knowing(run, known), steps)


def _flops_part(ranks: tuple[int, ...], steps: tuple[int, ...], opening: Opening) -> FlopsPart:
    return flops_part(opened(opening), ranks, steps)


def _flops(opening: Opening, *parts: FlopsPart) -> FlopsUtilization:
    return flops_of(opened(opening), parts)


def _knowing(run: Recording, known: Mapping[tuple[Analysis, tuple[int, ...]], Any]) -> Recording:
    """The run, with answers that are known already."""
    view = copy(run)
    view.__dict__.pop("_answers", None)
    view.elsewhere = lambda analysis, steps: known.get((analysis, steps))
    return view
