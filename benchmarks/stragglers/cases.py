"""The injection matrix: what is made slow, where, and by how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dashboard.analysis.stragglers.work import Cause

STEPS: Final = 16
MICROBATCHES: Final = 4
CHUNK_S: Final = 0.015
"""A forward or a backward of one microbatch. Work is sleep, so that four processes on two cores
do not fight for them."""
WORK_S: Final = 2 * MICROBATCHES * CHUNK_S
"""What a rank works per step; all amounts are shares of it."""
SLOW_STEPS: Final = (4, 8, 13)
"""Of what comes now and then. Step 0 warms up."""

SHAPES: Final = {"pp4": (4, 1), "pp2-tp2": (2, 2), "pp2-dp2": (2, 2), "ddp4": (1, 4)}
"""Layout → ranks along the pipeline, and along the other dimension, which counts fastest.
`ddp4` is DistributedDataParallel, whose waits nobody sees on gloo."""
AMOUNTS: Final = (0.05, 0.10, 0.20, 0.50)


@dataclass(kw_only=True, frozen=True)
class Case:
    """One recorded run. `amount` is the share of a rank's work per step that is added (in every
    step, or in `SLOW_STEPS`); ranks: who is slowed down; src: the other end of a slow link.
    """

    layout: str
    cause: Cause | None = None
    amount: float = 0.0
    ranks: tuple[int, ...] = ()
    src: int | None = None
    repeat: int = 0

    @property
    def name(self) -> str:
        """The name of its run directory."""
        if self.cause is None:
            return f"{self.layout}-clean-{self.repeat}"
        who = "-".join(map(str, self.ranks if self.src is None else (self.src, *self.ranks)))
        return f"{self.layout}-{self.cause.replace(' ', '_')}-{100 * self.amount:.0f}-at-{who}"

    @property
    def stage(self) -> int:
        """The stage of the first of `ranks`."""
        return self.ranks[0] // SHAPES[self.layout][1]


WHERE: Final[tuple[tuple[Cause, str, tuple[int, ...], int | None], ...]] = (
    ("slow rank", "pp2-tp2", (1,), None),
    ("slow rank", "pp2-tp2", (2,), None),
    ("slow rank", "pp2-dp2", (0,), None),
    ("slow rank", "pp2-dp2", (3,), None),
    ("slow rank", "ddp4", (2,), None),
    ("slow stage", "pp4", (0,), None),
    ("slow stage", "pp4", (2,), None),
    ("slow stage", "pp2-tp2", (2, 3), None),
    ("slow stage", "pp2-dp2", (0, 1), None),
    ("slow steps", "pp4", (1,), None),
    ("slow steps", "pp2-tp2", (3,), None),
    ("slow steps", "pp2-dp2", (2,), None),
    ("slow steps", "ddp4", (1,), None),
    ("stalls", "pp4", (3,), None),
    ("stalls", "pp2-dp2", (1,), None),
    ("data loading", "pp4", (0,), None),
    ("data loading", "pp2-tp2", (1,), None),
    ("data loading", "pp2-dp2", (0,), None),
    ("data loading", "ddp4", (3,), None),
    ("garbage collection", "pp4", (2,), None),
    ("garbage collection", "pp2-tp2", (0,), None),
    ("garbage collection", "pp2-dp2", (3,), None),
    ("slow link", "pp4", (1,), 0),
    ("slow link", "pp4", (1,), 2),
    ("slow link", "pp2-dp2", (2,), 0),
)
CLEAN_REPEATS: Final = 4


def all_cases() -> Iterator[Case]:
    """Every cause at every place by every amount, and clean runs of every layout."""
    for layout in SHAPES:
        for cause, where, ranks, src in WHERE:
            if where == layout:
                for amount in AMOUNTS:
                    yield Case(layout=layout, cause=cause, amount=amount, ranks=ranks, src=src)
        for repeat in range(CLEAN_REPEATS):
            yield Case(layout=layout, repeat=repeat)
