"""Work as a graph of tasks: each a function of a module, its arguments, and the tasks it needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, TypeAlias

from dashboard.analysis.reduction import FAN_IN

Analysis: TypeAlias = Callable[..., Any]
"""What a run is asked: a function of the run and of steps, or what is called like one."""


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


class Ready:
    """The tasks that can be done now, the earliest first; those that pick are done with what they
    pick from.
    """

    def __init__(self, tasks: Tasks, done: Collection[str]) -> None:
        self._names = list(tasks)
        self._picks = [task.picks for task in tasks.values()]
        self._users: dict[str, list[int]] = {}
        self._lacks: list[int] = []
        self._ready: list[int] = []
        for place, (name, task) in enumerate(tasks.items()):
            lacking = [needed for needed in {*task.needs} if needed not in done]
            for needed in lacking:
                self._users.setdefault(needed, []).append(place)
            self._lacks.append(len(lacking))
            if not lacking and name not in done:
                heappush(self._ready, place)

    def __bool__(self) -> bool:
        return bool(self._ready)

    def pop(self) -> str:
        """Take the first of them."""
        return self._names[heappop(self._ready)]

    def completed(self, name: str) -> None:
        """Those that waited for that task alone can be done."""
        for place in self._users.pop(name, ()):
            self._lacks[place] -= 1
            if self._picks[place]:
                self.completed(self._names[place])
            elif not self._lacks[place]:
                heappush(self._ready, place)
