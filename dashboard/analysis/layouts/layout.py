"""A layout: how ranks are split over pipeline, tensor and data, and in which order they work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

from dashboard.analysis.dimensions import role_of
from dashboard.analysis.pipeline.plans import plan
from dashboard.analysis.results import Result
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.analysis.replay.step_model import StepModel
    from dashboard.runs import Recording

MOST_FORWARDS: Final = 16_384
"""Of a plan in the grid: it is carried out some times, which takes a second."""

_SINGLE: Final = ("Schedule1F1B", "ScheduleGPipe")
_SEVERAL: Final = ("ScheduleInterleaved1F1B", "ScheduleZBVZeroBubble")
_CUTS: Final = (1, 2)


@dataclass(kw_only=True, frozen=True, order=True)
class Layout(Result):
    """p pipeline x t tensor x d data ranks; m microbatches per pipeline, v stages per rank; a
    microbatch is the `cut`-th part of a recorded one.
    """

    p: int
    t: int
    d: int
    m: int
    v: int
    schedule: str
    cut: int = 1

    def __str__(self) -> str:
        chunks = f" v{self.v}" if self.v > 1 else ""
        size = f"/{self.cut}" if self.cut > 1 else ""
        name = self.schedule.removeprefix("Schedule")
        return f"p{self.p} t{self.t} d{self.d} m{self.m}{size}{chunks} {name}"

    @property
    def microbatches(self) -> float:
        """Of a step, in recorded ones."""
        return self.m * self.d / self.cut


def recorded_layout(run: Recording, model: StepModel) -> Layout:
    """The layout of a run; every mesh dimension beside pp and tp counts as data."""
    t, mesh = 1, run.meta.mesh
    if mesh is not None:
        sizes = zip(mesh.names, mesh.shape, strict=True)
        t = prod(size for name, size in sizes if role_of(name) == "tp")
    d = max(1, run.meta.world_size // (model.p * t))
    return Layout(p=model.p, t=t, d=d, m=model.m, v=model.v, schedule=model.schedule)


def grid_of(here: Layout, world: int) -> Iterator[Layout]:
    """All splits of `world` ranks that can carry out the recorded batch, in recorded microbatches
    and in halves of them, with one stage per rank, with two, and in the recorded schedule. Plans
    of more than `MOST_FORWARDS` forwards are left out.

    2 ranks, 4 microbatches → p1 t1 d2 m2, p1 t2 d1 m4, p2 t1 d1 m4 (1F1B, GPipe, and v2), and the
    last ones with m8/2
    """
    batch = here.m * here.d
    for p in _divisors(world):
        for t in _divisors(world // p):
            d = world // (p * t)
            for cut in _CUTS if p > 1 else _CUTS[:1]:
                if batch * cut % d:
                    continue
                m = batch * cut // d
                for name, v in _ways(here, p):
                    if p * m * v <= MOST_FORWARDS and _is_possible(name, p, m, v):
                        yield Layout(p=p, t=t, d=d, m=m, v=v, schedule=name, cut=cut)


def _ways(here: Layout, p: int) -> list[tuple[str, int]]:
    """Schedules and virtual stages; one rank alone has but one order worth looking at."""
    if p == 1:
        return [(_SINGLE[0], 1)]
    ways = [(name, 1) for name in _SINGLE] + [(name, 2) for name in _SEVERAL]
    return list(dict.fromkeys([*ways, (here.schedule, here.v)]))


def _is_possible(name: str, p: int, m: int, v: int) -> bool:
    try:
        plan(name, p=p, m=m, v=v)
    except UsageError:  # this schedule cannot have these sizes
        return False
    return True


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
