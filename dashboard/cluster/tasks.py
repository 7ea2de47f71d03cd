"""Work as a graph of tasks: each a function of a module, its arguments, and the tasks it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dashboard.analysis.reduction import FAN_IN


@dataclass(kw_only=True, slots=True, frozen=True)
class Task:
    """`call(*arguments, *results of needs)`. It has no effects, so that it may be done again.

    picks: it only takes something out of the one result that it needs, which is better done where
    that lies, and at once.
    """

    call: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    needs: tuple[str, ...] = ()
    picks: bool = False

    def __call__(self, *needed: Any) -> Any:
        """Do it."""
        return self.call(*self.arguments, *needed)


Tasks: TypeAlias = Mapping[str, Task]
"""By name; a task comes after those that it needs."""


def tree(
    tasks: dict[str, Task],
    name: str,
    leaves: Sequence[str],
    join: Callable[..., Any],
    fan_in: int = FAN_IN,
) -> str:
    """Add the tasks that join the results of `leaves`, in their order, by `join(*results)`; it has
    to be associative. The name of the last one, which has them all.
    """
    level = list(leaves)
    depth = 0
    while len(level) > 1 or depth == 0:
        groups = [tuple(level[at : at + fan_in]) for at in range(0, len(level), fan_in)]
        level = [f"{name}-{depth}-{place}" for place in range(len(groups))]
        for added, group in zip(level, groups, strict=True):
            tasks[added] = Task(call=join, needs=group)
        depth += 1
    return level[0]


def users(tasks: Tasks) -> dict[str, int]:
    """How many tasks need the result of each."""
    counts = dict.fromkeys(tasks, 0)
    for task in tasks.values():
        for needed in task.needs:
            counts[needed] += 1
    return counts
