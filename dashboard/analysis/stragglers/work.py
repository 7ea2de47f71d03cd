"""What the searches for stragglers share: what each rank did in each step, and what stands out.

The pieces of the dependency graph are what each rank did by itself; time in which another rank
held it up is in none of them. So whoever has more of them than its like is the one who is slow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from dashboard.analysis.dimensions import coordinate
from dashboard.analysis.replay.graph import Graph
from dashboard.analysis.replay.replay import step_times
from dashboard.analysis.replay.scenarios import steps_of
from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import (
    Ints,
    RowsByKey,
    numbered,
    rows_by_key,
    sums,
    words_numbered,
)
from tracer.schema import GARBAGE_COLLECTION

if TYPE_CHECKING:
    from dashboard.runs import Recording

Cause = Literal[
    "slow rank",
    "slow stage",
    "slow steps",
    "stalls",
    "data loading",
    "garbage collection",
    "host gaps",
    "slow link",
]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

NOTICED: Final = 0.03
"""Share of a rank's usual work per step from which an excess is looked at. A slowdown of 5 % that
is measured with some noise must not be missed; what the noise itself makes is kept out by
`CLEAR`."""
CLEAR: Final = 3.5
"""Standard deviations (robust) that an excess must have: the usual bound for outliers (Iglewicz
and Hoaglin, How to Detect and Handle Outliers, 1993)."""
FEWEST_STEPS: Final = 4
"""With fewer steps neither a median nor its scatter says anything."""
MOST_EVIDENCE: Final = 5
SIGMA_OF_MAD: Final = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

ROLES: Final = ("work", "data", "garbage", "idle", "communication")
WORK, DATA, GARBAGE, IDLE, COMMUNICATION = range(len(ROLES))


@dataclass(kw_only=True, frozen=True)
class Evidence(Result):
    """One piece of work or transfer that took longer than expected; times in ns, `start` on the
    common clock from the run's start. rank: who did it, or who received.
    """

    rank: int
    step: int
    stage: int | None
    microbatch: int | None
    name: str
    start: int
    duration: int
    expected: int

    @property
    def window(self) -> tuple[int, int]:
        """What to show of the timeline: as much before and after it as it lasts."""
        return max(0, self.start - self.duration), self.start + 2 * self.duration


@dataclass(kw_only=True, frozen=True)
class Change:
    """Of some rows of the graph's pieces, or transfers: their numbers, and the durations (ns) that
    they would have.
    """

    rows: Ints
    ns: Ints


@dataclass(kw_only=True, frozen=True)
class Suspect:
    """Something that stands out, before it is priced.

    pieces, transfers: those of the graph that would be shorter without it. slowdown: duration over
    what is expected, less 1. clearness: its excess over the least that would have been noticed.
    steps: numbers of those that it concerns.
    """

    cause: Cause
    rank: int | None = None
    stage: int | None = None
    src: int | None = None
    group: str | None = None
    alone: bool = False
    """No other rank does the same work, so that rank and stage cannot be told apart."""
    seen_in: tuple[str, ...] = ()
    """Kinds of its work that make up the excess, the one that makes most first."""
    steps: tuple[int, ...]
    slowdown: float | None
    clearness: float
    pieces: Change
    transfers: Change | None = None
    evidence: tuple[Evidence, ...]


@dataclass(kw_only=True, frozen=True)
class Work:
    """The pieces of a graph as arrays, one entry per piece.

    steps: those whose time the replay can tell, which leaves out the first of a chain: it warms
    up. step: index in `steps`, -1 for all others. role: index in `ROLES`. stage: -1 for none.
    place: index of the rank in `ranks`. team: of each rank, a number that those have in common
    that do the same work. spent: by place, role and step, ns.
    """

    graph: Graph
    steps: tuple[int, ...]
    ranks: tuple[int, ...]
    team: Ints
    step: Ints
    place: Ints
    stage: Ints
    role: Ints
    computes: Bools
    ns: Ints
    spent: Floats = field(repr=False)
    by_role: RowsByKey = field(repr=False)
    cells: Cells = field(repr=False)

    def of(self, place: int, role: int) -> Ints:
        """The numbers of the pieces of a rank in a role."""
        return self.by_role[place * len(ROLES) + role]

    def in_steps(self, place: int, role: int) -> Ints:
        """Those of them that lie in one of `steps`."""
        mine = self.of(place, role)
        return mine[self.step[mine] >= 0]

    @cached_property
    def usual(self) -> Floats:
        """What each rank works in a step, ns: the median."""
        return np.median(self.spent[:, WORK], axis=1)

    @cached_property
    def by_kind(self) -> tuple[list[str], Floats]:
        """The kinds of work; and what each rank spent with each over all `steps`, ns."""
        kinds, kind = words_numbered(self.graph.pieces["kind"])
        rows = np.flatnonzero((self.role == WORK) & (self.step >= 0))
        spent = np.bincount(
            self.place[rows] * len(kinds) + kind[rows],
            weights=self.ns[rows],
            minlength=len(self.ranks) * len(kinds),
        ).astype(np.float64)
        return [str(word) for word in kinds], spent.reshape(len(self.ranks), len(kinds))

    @cached_property
    def teams(self) -> list[Ints]:
        """The places of the ranks of each team."""
        by_team = rows_by_key(self.team, int(self.team.max(initial=-1)) + 1)
        return [by_team[team] for team in range(len(by_team.begins) - 1)]


@dataclass(kw_only=True, frozen=True)
class Cells:
    """Pieces that belong to one action (or span) of one rank and step, brought together; in order
    of rank and step.

    of: the cell of each piece. like: cells with equal numbers do the same (stage, kind and name).
    start: of the first piece. The others are as in `Work`, one entry per cell.
    """

    of: Ints
    like: Ints
    place: Ints
    step: Ints
    stage: Ints
    microbatch: Ints
    role: Ints
    name: npt.NDArray[np.object_]
    start: Ints
    ns: Ints


def work_of(run: Recording, graph: Graph) -> Work:
    """The pieces of the graph of a run, as arrays."""
    pieces = graph.pieces
    steps = step_times(graph, graph.time).steps
    of_step, of = np.unique(steps_of(graph), return_inverse=True)
    index = {step: number for number, step in enumerate(steps)}
    step = np.array([index.get(step, -1) for step in of_step.tolist()], np.int64)[of]
    place = np.searchsorted(run.ranks, pieces["rank"].to_numpy())
    stage = pc.fill_null(pieces["stage"], -1).to_numpy().astype(np.int64)
    role, computes = _roles(graph)
    ns = pieces["duration"].to_numpy()
    in_role = place * len(ROLES) + role
    chosen = step >= 0
    spent = np.bincount(
        in_role[chosen] * len(steps) + step[chosen],
        weights=ns[chosen],
        minlength=len(run.ranks) * len(ROLES) * len(steps),
    ).astype(np.float64)
    return Work(
        graph=graph,
        steps=steps,
        ranks=run.ranks,
        team=_teams(run, place, np.where(computes, stage, -1)),
        step=step,
        place=place,
        stage=stage,
        role=role,
        computes=computes,
        ns=ns,
        spent=spent.reshape(len(run.ranks), len(ROLES), len(steps)),
        by_role=rows_by_key(in_role, len(run.ranks) * len(ROLES)),
        cells=_cells(graph, step, place, stage, role),
    )


def changed(rows: Ints, ns: npt.NDArray[np.floating[Any]]) -> Change:
    """Those rows with durations rounded to whole ns."""
    return Change(rows=rows, ns=np.rint(ns).astype(np.int64))


def scatter(values: Floats) -> float:
    """The standard deviation as the median absolute deviation tells it."""
    return SIGMA_OF_MAD * float(np.median(np.abs(values - np.median(values))))


def evidence_of(work: Work, chosen: Ints, expected: Floats) -> tuple[Evidence, ...]:
    """The cells of those numbers that exceed what was expected of them most (ns, one each)."""
    cells = work.cells
    order = np.argsort(-(cells.ns[chosen] - expected), kind="stable")[:MOST_EVIDENCE]
    return tuple(
        Evidence(
            rank=work.ranks[cells.place[cell]],
            step=work.steps[cells.step[cell]],
            stage=_or_none(cells.stage[cell]),
            microbatch=_or_none(cells.microbatch[cell]),
            name=str(cells.name[cell]),
            start=int(cells.start[cell]),
            duration=int(cells.ns[cell]),
            expected=round(float(usual)),
        )
        for cell, usual in zip(chosen[order].tolist(), expected[order].tolist(), strict=True)
    )


def _or_none(number: int) -> int | None:
    return None if number < 0 else int(number)


def _roles(graph: Graph) -> tuple[Ints, Bools]:
    categories, category = words_numbered(graph.pieces["category"])
    kinds, kind = words_numbered(graph.pieces["kind"])
    names, name = words_numbered(graph.pieces["name"])
    role = np.full(len(category), WORK, np.int64)
    role[_are(categories, lambda said: said == "data")[category]] = DATA
    role[_are(kinds, lambda said: said == "idle")[kind]] = IDLE
    role[_are(categories, lambda said: said.startswith("comm:"))[category]] = COMMUNICATION
    collects = _are(names, lambda said: said == GARBAGE_COLLECTION)[name]
    role[_are(kinds, lambda said: said == "user")[kind] & collects] = GARBAGE
    return role, _are(categories, lambda said: said == "compute")[category]


def _are(words: Sequence[str | None], what: Callable[[str], bool]) -> Bools:
    return np.array([what(str(word)) for word in words], np.bool_)


def _teams(run: Recording, place: Ints, stage: Ints) -> Ints:
    """Ranks with the same stages, and the same place in the pipeline, do the same work."""
    computes = stage >= 0
    first, _ = numbered(place[computes], stage[computes])
    stages: dict[int, list[int]] = defaultdict(list)
    for at, held in zip(place[computes][first], stage[computes][first], strict=True):
        stages[int(at)].append(int(held))
    found: dict[object, int] = {}
    team = []
    for at, rank in enumerate(run.ranks):
        facts = run.facts.get(rank)
        where = None if facts is None else coordinate(facts.coordinates, "pp")
        team.append(found.setdefault((tuple(stages[at]), where), len(found)))
    return np.array(team, np.int64)


def _cells(graph: Graph, step: Ints, place: Ints, stage: Ints, role: Ints) -> Cells:
    pieces = graph.pieces
    microbatch = pc.fill_null(pieces["microbatch"], -1).to_numpy().astype(np.int64)
    names, said = _labels(graph)
    first, of = numbered(place, step, stage, said, microbatch, role)
    _, like = numbered(stage[first], said[first])
    start = np.full(len(first), np.iinfo(np.int64).max)
    np.minimum.at(start, of, pieces["start"].to_numpy())
    return Cells(
        of=of,
        like=like,
        place=place[first],
        step=step[first],
        stage=stage[first],
        microbatch=microbatch[first],
        role=role[first],
        name=names[said[first]],
        start=start,
        ns=sums(of, pieces["duration"].to_numpy(), len(first)),
    )


def _labels(graph: Graph) -> tuple[npt.NDArray[np.object_], Ints]:
    """The names of pieces in order of kind and name, and the number of each piece's."""
    kinds, kind = words_numbered(graph.pieces["kind"])
    names, name = words_numbered(graph.pieces["name"])
    first, of = numbered(kind, name)
    labels = [f"{kinds[k]} {names[n]}" for k, n in zip(kind[first], name[first], strict=True)]
    order, known = np.unique(np.array(labels, str), return_inverse=True)
    said = [str(label).split(" ", 1)[1] for label in order]
    return np.array(said, object), known[of] if len(of) else of
