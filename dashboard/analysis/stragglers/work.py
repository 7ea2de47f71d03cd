"""What the searches for stragglers share: what each rank did in each step, and what stands out.

The pieces of the dependency graph are what each rank did by itself; time in which another rank
held it up is in none of them. So whoever has more of them than its like is the one who is slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from dashboard.analysis.communication.points import Ints
from dashboard.analysis.dimensions import coordinate
from dashboard.analysis.replay.graph import Graph
from dashboard.analysis.replay.replay import step_times
from dashboard.analysis.replay.scenarios import steps_of
from dashboard.analysis.results import Result
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
class Suspect:
    """Something that stands out, before it is priced.

    pieces, transfers: the durations (ns) that those of the graph would have without it.
    slowdown: duration over what is expected, less 1. clearness: its excess over the least that
    would have been noticed. steps: numbers of those that it concerns.
    """

    cause: Cause
    rank: int | None = None
    stage: int | None = None
    src: int | None = None
    group: str | None = None
    alone: bool = False
    """No other rank does the same work, so that rank and stage cannot be told apart."""
    steps: tuple[int, ...]
    slowdown: float | None
    clearness: float
    pieces: Ints | None = None
    transfers: Ints | None = None
    evidence: tuple[Evidence, ...]


@dataclass(kw_only=True, frozen=True)
class Work:
    """The pieces of a graph as arrays, one entry per piece.

    steps: those whose time the replay can tell, which leaves out the first of a chain: it warms
    up. step: index in `steps`, -1 for all others. role: index in `ROLES`. stage: -1 for none.
    team: rank → what it has in common with the ranks that do the same work.
    """

    graph: Graph
    steps: tuple[int, ...]
    ranks: tuple[int, ...]
    team: Mapping[int, object]
    step: Ints
    rank: Ints
    stage: Ints
    role: Ints
    computes: Bools
    ns: Ints
    cells: Cells = field(repr=False)

    def per_step(self, mine: Bools) -> Floats:
        """The time of those pieces in each of `steps`, ns."""
        chosen = mine & (self.step >= 0)
        return np.bincount(
            self.step[chosen], weights=self.ns[chosen], minlength=len(self.steps)
        ).astype(np.float64)

    def of(self, rank: int, role: int) -> Bools:
        """The pieces of a rank in a role."""
        found: Bools = (self.rank == rank) & (self.role == role)
        return found

    def peers(self, rank: int) -> tuple[int, ...]:
        """The other ranks that do the same work."""
        return tuple(r for r in self.ranks if r != rank and self.team[r] == self.team[rank])

    def usual(self, rank: int) -> float:
        """What the rank works in a step, ns: the median."""
        return float(np.median(self.per_step(self.of(rank, WORK))))


@dataclass(kw_only=True, frozen=True)
class Cells:
    """Pieces that belong to one action (or span) of one rank and step, brought together.

    of: the cell of each piece. like: cells with equal numbers do the same (stage, kind and name).
    start: of the first piece. The others are as in `Work`, one entry per cell.
    """

    of: Ints
    like: Ints
    rank: Ints
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
    index = {step: number for number, step in enumerate(steps)}
    of_step, numbered = np.unique(steps_of(graph), return_inverse=True)
    known = np.array([index.get(int(step), -1) for step in of_step], np.int64)
    step = known[numbered] if len(known) else np.zeros(0, np.int64)
    rank = pieces["rank"].to_numpy().astype(np.int64)
    stage = pc.fill_null(pieces["stage"], -1).to_numpy().astype(np.int64)
    role, computes = _roles(graph)
    ns = pieces["duration"].to_numpy()
    return Work(
        graph=graph,
        steps=steps,
        ranks=run.ranks,
        team=_teams(run, rank, np.where(computes, stage, -1)),
        step=step,
        rank=rank,
        stage=stage,
        role=role,
        computes=computes,
        ns=ns,
        cells=_cells(graph, step, rank, stage, role),
    )


def scatter(values: Floats) -> float:
    """The standard deviation as the median absolute deviation tells it."""
    return SIGMA_OF_MAD * float(np.median(np.abs(values - np.median(values))))


def evidence_of(work: Work, chosen: Ints, expected: Floats) -> tuple[Evidence, ...]:
    """The cells of those numbers that exceed what was expected of them most (ns, one each)."""
    cells = work.cells
    order = np.argsort(-(cells.ns[chosen] - expected), kind="stable")[:MOST_EVIDENCE]
    return tuple(
        Evidence(
            rank=int(cells.rank[cell]),
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
    category = np.array(graph.pieces["category"].to_pylist(), object)
    kind = np.array(graph.pieces["kind"].to_pylist(), object)
    name = np.array(graph.pieces["name"].to_pylist(), object)
    role = np.full(len(category), WORK, np.int64)
    role[category == "data"] = DATA
    role[kind == "idle"] = IDLE
    role[[str(said).startswith("comm:") for said in category]] = COMMUNICATION
    role[(kind == "user") & (name == GARBAGE_COLLECTION)] = GARBAGE
    return role, np.array(category == "compute", np.bool_)


def _teams(run: Recording, rank: Ints, stage: Ints) -> dict[int, object]:
    """Ranks with the same stages, and the same place in the pipeline, do the same work."""
    found: dict[int, object] = {}
    for r in run.ranks:
        stages = np.unique(stage[(rank == r) & (stage >= 0)]).tolist()
        facts = run.facts.get(r)
        found[r] = (tuple(stages), None if facts is None else coordinate(facts.coordinates, "pp"))
    return found


def _cells(graph: Graph, step: Ints, rank: Ints, stage: Ints, role: Ints) -> Cells:
    pieces = graph.pieces
    microbatch = pc.fill_null(pieces["microbatch"], -1).to_numpy().astype(np.int64)
    label = [f"{k} {n}" for k, n in zip(*(pieces[c].to_pylist() for c in ("kind", "name")))]  # noqa: B905
    labels, said = np.unique(np.array(label, object).astype(str), return_inverse=True)
    keys = np.stack([rank, step, stage, said, microbatch, role])
    cells, of = np.unique(keys, axis=1, return_inverse=True)
    of = of.reshape(-1)
    _, like = np.unique(cells[[2, 3]], axis=1, return_inverse=True)
    ns = np.zeros(cells.shape[1], np.int64)
    np.add.at(ns, of, pieces["duration"].to_numpy())
    start = np.full(cells.shape[1], np.iinfo(np.int64).max)
    np.minimum.at(start, of, pieces["start"].to_numpy())
    names = np.array([str(text).split(" ", 1)[1] for text in labels], object)
    return Cells(
        of=of,
        like=like.reshape(-1),
        rank=cells[0],
        step=cells[1],
        stage=cells[2],
        microbatch=cells[4],
        role=cells[5],
        name=names[cells[3]] if len(names) else np.zeros(0, object),
        start=start,
        ns=ns,
    )
