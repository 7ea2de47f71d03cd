"""Which steps of two runs are compared: those that both have, without warm-up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypeAlias

from dashboard.analysis.comparing.mean_difference import FEWEST_STEPS

if TYPE_CHECKING:
    from dashboard.runs import Recording

Named: TypeAlias = tuple["Recording", str]
"""A recording, and what to call it."""


def pick_steps(
    a: Named, b: Named, steps: Collection[int] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...], list[str]]:
    """The steps of each (of `steps`), and notes that say what was left out."""
    notes: list[str] = []
    return *_paired(_warm(*a, steps, notes), _warm(*b, steps, notes), notes), notes


def warm_steps(run: Recording, steps: Collection[int] | None = None) -> tuple[int, ...]:
    """The complete steps (of `steps`), less the run's first, in which buffers and connections are
    set up; that one too if there is no other.
    """
    chosen = tuple(step for step in run.steps if steps is None or step in steps)
    return chosen[1:] if len(chosen) > 1 and chosen[0] == run.steps[0] else chosen


def steps_of_repeat(run: Recording, steps_a: Sequence[int]) -> tuple[int, ...]:
    """The steps of a recording of A that A's are compared with; all warm ones if it has none."""
    wanted = set(steps_a)
    return tuple(step for step in run.steps if step in wanted) or warm_steps(run)


def _warm(
    run: Recording, name: str, steps: Collection[int] | None, notes: list[str]
) -> tuple[int, ...]:
    warm = warm_steps(run, steps)
    if run.steps and run.steps[0] in (run.steps if steps is None else steps):
        first = run.steps[0]
        if first in warm:
            notes.append(f"{name}: step {first} is warm-up, but there is no other")
        else:
            notes.append(f"{name}: step {first} is left out as warm-up")
    return warm


def _paired(
    a: tuple[int, ...], b: tuple[int, ...], notes: list[str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The steps that both runs have; where those are too few, all that each has."""
    common = tuple(sorted(set(a) & set(b)))
    if a == b:
        return a, b
    if len(common) >= FEWEST_STEPS:
        notes.append(f"{len(common)} steps that both runs have are compared")
        return common, common
    notes.append(f"the runs share {len(common)} steps: each one's own are compared")
    return a, b
