"""Step windows: when each step began and ended on each rank."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from dashboard.runs import Recording


def step_windows(run: Recording, steps: Collection[int] | None = None) -> pa.Table:
    """Columns rank, step, start, duration (ns), ordered by rank and step.

    Only steps that every readable rank completed, so that ranks can be laid side by side.
    """
    wanted = [step for step in run.steps if steps is None or step in steps]
    events = run.events(steps=wanted, kinds=("step",), columns=("step", "start", "duration"))
    return events.sort_by([("rank", "ascending"), ("step", "ascending")])
