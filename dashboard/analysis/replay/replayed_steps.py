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

    100 steps, of which 20 may be replayed → 0 to 3, 24 to 27, 48 to 51, 72 to 75 and 96 to 99;
    6 → 0 to 2 and 97 to 99
    """
    chosen = [step for step in run.steps if steps is None or step in steps]
    per_step = run.event_count / max(len(run.steps), 1)
    most = max(int(MOST_EVENTS / max(per_step, 1)), FEWEST_STEPS)
    if len(chosen) <= most:
        return tuple(chosen)
    length = min(max(most // STRETCHES, SHORTEST), STRETCH)
    begins = np.linspace(0, len(chosen) - length, most // length)
    places = (begins.astype(np.int64)[:, None] + np.arange(length)).ravel()
    return tuple(chosen[place] for place in np.unique(places).tolist())


def of_how_many(run: Recording, steps: Collection[int] | None = None) -> tuple[str, ...]:
    """Where only some of the steps are replayed: a line that says so; empty where all are."""
    chosen = [step for step in run.steps if steps is None or step in steps]
    replayed = replayed_steps(run, steps)
    if len(replayed) == len(chosen):
        return ()
    return (
        f"{len(replayed)} of {len(chosen):,} steps are replayed, in stretches over the run; "
        "--step A:B chooses others",
    )
