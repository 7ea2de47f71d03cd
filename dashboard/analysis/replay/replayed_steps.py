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
FEWEST_STEPS: Final = 5
"""However large they are: the first of a stretch is left out, and four tell how steps vary."""
STRETCH: Final = 10
"""Steps in a row: of those, a tenth is lost with the first one."""


def replayed_steps(run: Recording, steps: Collection[int] | None = None) -> tuple[int, ...]:
    """All complete steps, or those of `steps`, if they are not too many; else stretches of them.

    100 steps, of which 20 may be replayed → 0 to 9 and 90 to 99; 5 → 47 to 51
    """
    chosen = [step for step in run.steps if steps is None or step in steps]
    per_step = run.event_count / max(len(run.steps), 1)
    most = max(int(MOST_EVENTS / max(per_step, 1)), FEWEST_STEPS)
    if len(chosen) <= most:
        return tuple(chosen)
    stretches = max(most // STRETCH, 1)
    length = most // stretches
    last = len(chosen) - length
    begins = np.linspace(0, last, stretches) if stretches > 1 else np.array([last / 2])
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
