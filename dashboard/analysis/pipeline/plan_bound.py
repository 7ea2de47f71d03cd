"""The plan bound: how small the bubble could be if no action waited for communication.

The recorded actions are replayed in the order in which each rank did them, each as long as it
took, starting as soon as its rank is free and what it needs is done:

    F(s-1, m) → F(s, m)     F(s, m) → B(s, m)     B(s+1, m) → B(s, m)     I(s, m) → W(s, m)

What bubble is left is the schedule's own, with the durations at hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dashboard.analysis.pipeline.actions import Action

_Key = tuple[str, int, int]
"""(part, stage, microbatch); part is F, B (input gradients done) or W."""


def plan_bound(actions: Sequence[Action]) -> int | None:
    """The window in ns, first start to last end, of the replay of one step of one pipeline.

    None if the actions cannot be replayed (one is missing, so that the order contradicts itself).
    """
    replayed = _starts(actions)
    if replayed is None:
        return None
    begin = min((start for _, start in replayed), default=0)
    return max((start + action.duration for action, start in replayed), default=0) - begin


def replay(actions: Sequence[Action]) -> list[Action] | None:
    """The same actions of one step of one pipeline, with the starts they have in the replay.

    The replay begins at 0. None if they cannot be replayed.
    """
    replayed = _starts(actions)
    if replayed is None:
        return None
    return [replace(action, start=start) for action, start in replayed]


def _starts(actions: Sequence[Action]) -> list[tuple[Action, int]] | None:
    queues: dict[int, list[Action]] = defaultdict(list)
    for action in sorted(actions, key=lambda action: action.start):
        queues[action.rank].append(action)
    recorded = {key for action in actions for key in _provides(action)}
    done: dict[_Key, int] = {}
    free = dict.fromkeys(queues, 0)
    position = dict.fromkeys(queues, 0)
    replayed: list[tuple[Action, int]] = []
    while len(replayed) < len(actions):
        before = len(replayed)
        for rank, queue in queues.items():
            while position[rank] < len(queue):
                action = queue[position[rank]]
                needs = [key for key in _needs(action) if key in recorded]
                if any(key not in done for key in needs):
                    break
                start = max([free[rank], *(done[key] for key in needs)])
                free[rank] = start + action.duration
                for key in _provides(action):
                    done[key] = free[rank]
                position[rank] += 1
                replayed.append((action, start))
        if len(replayed) == before:
            return None
    return replayed


def _provides(action: Action) -> Iterator[_Key]:
    at = (action.stage, action.microbatch)
    if action.kind == "forward":
        yield ("F", *at)
    elif action.kind in ("backward", "backward_input"):
        yield ("B", *at)
    if action.kind in ("backward", "backward_weight"):
        yield ("W", *at)


def _needs(action: Action) -> Iterator[_Key]:
    stage, microbatch = action.stage, action.microbatch
    if action.kind == "forward":
        yield ("F", stage - 1, microbatch)
    elif action.kind == "backward_weight":
        yield ("B", stage, microbatch)
    else:
        yield ("F", stage, microbatch)
        yield ("B", stage + 1, microbatch)
