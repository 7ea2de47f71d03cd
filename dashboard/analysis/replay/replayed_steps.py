"""Which steps of a long run are replayed: a few stretches of it, since a step is like the next.

A replay keeps every operation of every rank in memory at once, so that what it takes grows with
the steps. Beyond `MOST_EVENTS` it looks at stretches of steps that follow each other, evenly over
the run, and its results say which steps those are. A range of steps that is chosen (`--step`) and
has no more events is replayed whole.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from dashboard.runs import Recording

MOST_EVENTS: Final = 500_000
"""Ten seconds of one core and half a gigabyte."""
FEWEST_STEPS: Final = 6
"""However large they are: the first of a stretch is left out, and four tell how steps vary."""
STRETCH: Final = 10
"""Steps in a row, if there are many: of those, a tenth is lost with the first one."""
SHORTEST: Final = 3
"""Of a stretch, where only few steps can be replayed: of those, a third is lost. One long stretch
would lose less and tell of one time only, and what slows a run down comes and goes."""
STRETCHES: Final = 5
"""As many as there is room for, before stretches get longer."""


Stretch: TypeAlias = tuple[int, ...]
"""Steps that follow each other."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Replayed:
    """Which steps are replayed, of how many that were chosen.

    stretches: in order; what follows a gap in `run.steps` is another one.
    """

    stretches: tuple[Stretch, ...]
    chosen: int

    @property
    def steps(self) -> tuple[int, ...]:
        """Those of all stretches, in order."""
        return tuple(step for stretch in self.stretches for step in stretch)

    @property
    def are_all(self) -> bool:
        """Whether they are all that were chosen."""
        return len(self.steps) == self.chosen

    def notes(self, counted: int) -> tuple[str, ...]:
        """A line that says how many of them have a measured time; none where all are replayed."""
        if self.are_all:
            return ()
        number = len(self.stretches)
        where = f"{number} stretches over the run" if number > 1 else "one stretch of the run"
        return (
            f"{counted} of {self.chosen:,} steps are looked at, in {where}; a range of steps "
            "(--step A:B) chooses others",
        )


def replayed_steps(run: Recording, steps: Collection[int] | None = None) -> Replayed:
    """All complete steps, or those of `steps`, if they are not too many; else stretches of them.

    100 steps, of which 20 may be replayed → 8 to 11, 28 to 31, 48 to 51, 68 to 71 and 88 to 91;
    6 → 23 to 25 and 73 to 75
    """
    wanted = None if steps is None else frozenset(steps)
    chosen = [step for step in run.steps if wanted is None or step in wanted]
    per_step = run.event_count / max(len(run.steps), 1)
    most = max(int(MOST_EVENTS / max(per_step, 1)), FEWEST_STEPS)
    some = (
        chosen if len(chosen) <= most else [chosen[place] for place in _places(len(chosen), most)]
    )
    return Replayed(stretches=stretches_of(some, run.steps), chosen=len(chosen))


def _places(count: int, most: int) -> list[int]:
    """Of `most` of that many steps, or a few less."""
    length = min(max(most // STRETCHES, SHORTEST), STRETCH)
    stretches = most // length
    number = np.arange(stretches)
    begins = number * length + (number + 0.5) * (count - stretches * length) / stretches
    places = begins.astype(np.int64)[:, None] + np.arange(length)
    found: list[int] = np.unique(places).tolist()
    return found


def stretches_of(steps: Sequence[int], of: Sequence[int]) -> tuple[Stretch, ...]:
    """Steps that follow each other in `of` together.

    0, 1, 5 of 0, 1, 2, 5 → 0, 1 and 5
    """
    place = {step: number for number, step in enumerate(of)}
    found: list[list[int]] = []
    for step in steps:
        if found and place[step] == place[found[-1][-1]] + 1:
            found[-1].append(step)
        else:
            found.append([step])
    return tuple(tuple(stretch) for stretch in found)
