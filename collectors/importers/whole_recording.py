"""A recording without steps, taken as one: the analyses look at steps, and find all in one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from collectors.importers.imported_run import ImportedRun

STEP: Final = 0
"""What the column `step` of every event holds then."""


def one_step(run: ImportedRun, begin: int, end: int, *, ranks: Iterable[int], why: str) -> None:
    """Give these ranks one step window, from `begin` to `end` (ns on the source's clock).

    `why` completes the sentence "steps: …, so the whole recording is taken as step 0".
    """
    run.lacks(f"steps: {why}, so the whole recording is taken as step {STEP}")
    for rank in ranks:
        run.rank(rank).add(
            start=begin,
            duration=max(end - begin, 0),
            kind="step",
            name="step",
            lane="host:main",
            step=STEP,
        )
