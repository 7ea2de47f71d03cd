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

import numpy as np
import pyarrow as pa

from dashboard.analysis.pipeline.actions import Action
from dashboard.analysis.rows_by_key import Ints, numbered, words_numbered

_Key = tuple[str, int, int]
"""(part, stage, microbatch); part is F, B (input gradients done) or W."""
_Done = tuple[int, str, int, int]
"""rank, kind, stage, microbatch."""


def plan_bounds(actions: pa.Table) -> dict[int, int | None]:
    """Of each step of an `action_table` of one pipeline, the window of its replay, first start to
    last end, ns; None if its actions cannot be replayed (one is missing, so that the order
    contradicts itself). Steps in which the same was done in the same order are replayed together.
    """
    step, rank, start, length = (
        actions[name].to_numpy() for name in ("step", "rank", "start", "duration")
    )
    order = np.lexsort((start, rank, step))
    kinds, kind = words_numbered(actions["kind"].cast(pa.string()))
    stage, microbatch = actions["stage"].to_numpy(), actions["microbatch"].to_numpy()
    first, which = numbered(rank, kind, stage, microbatch)
    which, length = which[order], length[order]
    steps, begins = np.unique(step[order], return_index=True)
    alike: dict[bytes, list[int]] = defaultdict(list)
    parts = np.split(which, begins[1:])
    for number, part in enumerate(parts):
        alike[part.tobytes()].append(number)
    found: dict[int, int | None] = {}
    for numbers in alike.values():
        done = [
            (int(rank[row]), str(kinds[kind[row]]), int(stage[row]), int(microbatch[row]))
            for row in first[parts[numbers[0]]].tolist()
        ]
        ordered = _order(done)
        rows = begins[numbers] + np.arange(len(done))[:, None]
        bounds = [None] * len(numbers) if ordered is None else _windows(ordered, length[rows])
        found |= zip(steps[numbers].tolist(), bounds, strict=True)
    return found


def replay(actions: Sequence[Action]) -> list[Action] | None:
    """The same actions of one step of one pipeline, with the starts they have in the replay.

    The replay begins at 0. None if they cannot be replayed.
    """
    by_start = sorted(actions, key=lambda action: action.start)
    ordered = _order([(a.rank, a.kind, a.stage, a.microbatch) for a in by_start])
    if ordered is None:
        return None
    replayed: list[Action] = []
    ends = [0] * len(by_start)
    for place, before in ordered:
        start = max((ends[one] for one in before), default=0)
        ends[place] = start + by_start[place].duration
        replayed.append(replace(by_start[place], start=start))
    return replayed


def _windows(ordered: Sequence[tuple[int, list[int]]], length: Ints) -> list[int]:
    """Of steps with actions of that length (actions × steps, ns), first start to last end."""
    ends = np.zeros_like(length)
    first = np.full(length.shape[1], np.iinfo(np.int64).max)
    for place, before in ordered:
        start = ends[before].max(axis=0, initial=0)
        np.minimum(first, start, out=first)
        ends[place] = start + length[place]
    found: list[int] = (ends.max(axis=0) - first).tolist()
    return found


def _order(actions: Sequence[_Done]) -> list[tuple[int, list[int]]] | None:
    """Actions, each rank's in the order in which it did them, in an order in which they can be
    done: the place of each, and the places of those that it has to wait for.
    """
    queues: dict[int, list[int]] = defaultdict(list)
    for place, (rank, *_) in enumerate(actions):
        queues[rank].append(place)
    recorded = {key for action in actions for key in _provides(action)}
    done: dict[_Key, int] = {}
    position = dict.fromkeys(queues, 0)
    found: list[tuple[int, list[int]]] = []
    while len(found) < len(actions):
        before = len(found)
        for rank, queue in queues.items():
            while position[rank] < len(queue):
                at = position[rank]
                needs = [key for key in _needs(actions[queue[at]]) if key in recorded]
                if any(key not in done for key in needs):
                    break
                found.append((queue[at], [*queue[max(at - 1, 0) : at], *(done[k] for k in needs)]))
                done |= dict.fromkeys(_provides(actions[queue[at]]), queue[at])
                position[rank] += 1
        if len(found) == before:
            return None
    return found


def _provides(action: _Done) -> Iterator[_Key]:
    _, kind, stage, microbatch = action
    if kind == "forward":
        yield ("F", stage, microbatch)
    elif kind in ("backward", "backward_input"):
        yield ("B", stage, microbatch)
    if kind in ("backward", "backward_weight"):
        yield ("W", stage, microbatch)


def _needs(action: _Done) -> Iterator[_Key]:
    _, kind, stage, microbatch = action
    if kind == "forward":
        yield ("F", stage - 1, microbatch)
    elif kind == "backward_weight":
        yield ("B", stage, microbatch)
    else:
        yield ("F", stage, microbatch)
        yield ("B", stage + 1, microbatch)
