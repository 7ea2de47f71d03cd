"""Parts into one, as a tree: so that no more than a few parts are in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

Part = TypeVar("Part")

FAN_IN: Final = 16
"""Parts that are joined at once. 1,024 ranks are three levels."""


def reduced(parts: Iterable[Part], join: Callable[[Sequence[Part]], Part]) -> Part:
    """All parts as one. `join` has to be associative; the order of the parts is kept.

    Raises:
        ValueError: there are no parts.
    """
    levels: list[list[Part]] = [[]]
    for part in parts:
        levels[0].append(part)
        for level, waiting in enumerate(levels):
            if len(waiting) < FAN_IN:
                break
            if level + 1 == len(levels):
                levels.append([])
            levels[level + 1].append(join(waiting))
            waiting.clear()
    left = [part for level in reversed(levels) for part in level]
    if not left:
        raise ValueError("no parts to join")
    return join(left)
