"""Which steps of a long run are replayed: a few stretches of it, since a step is like the next.

A replay keeps every operation of every rank in memory at once, so that what it takes grows with
the steps. Beyond `MOST_EVENTS` it looks at stretches of steps that follow each other, evenly over
the run, and its results say which steps those are. A range of steps that is chosen (`--step`) and
has no more events is replayed whole.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

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


def replayed_steps(run: Recording, steps: Collection[int] | None = None) -> tuple[int, ...]:
    """All complete steps, or those of `steps`, if they are not too many; else stretches of them.

    100 steps, of which 20 may be replayed → 8 to 11, 28 to 31, 48 to 51, 68 to 71 and 88 to 91;
    6 → 23 to 25 and 73 to 75
    """
    chosen = _chosen(run, steps)
    per_step = run.event_count / max(len(run.steps), 1)
    most = max(int(MOST_EVENTS / max(per_step, 1)), FEWEST_STEPS)
    if len(chosen) <= most:
        return tuple(chosen)
    length = min(max(most // STRETCHES, SHORTEST), STRETCH)
    stretches = most // length
    number = np.arange(stretches)
    begins = number * length + (number + 0.5) * (len(chosen) - stretches * length) / stretches
    places = (begins.astype(np.int64)[:, None] + np.arange(length)).ravel()
    return tuple(chosen[place] for place in np.unique(places).tolist())


def of_how_many(run: Recording, steps: Collection[int] | None = None) -> tuple[str, ...]:
    """Where only some of the steps are replayed: a line that says so; empty where all are."""
    chosen = _chosen(run, steps)
    replayed = replayed_steps(run, steps)
    if len(replayed) == len(chosen):
        return ()
    return (
        f"{len(replayed)} of {len(chosen):,} steps are replayed, in stretches over the run; "
        "--step A:B chooses others",
    )


def _chosen(run: Recording, steps: Collection[int] | None) -> list[int]:
    wanted = None if steps is None else frozenset(steps)
    return [step for step in run.steps if wanted is None or step in wanted]
