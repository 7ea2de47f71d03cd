"""Steps on paper of two ranks under DistributedDataParallel on gloo: of its all_reduces nothing is
known but when each was issued.

    rank 0  forward 10 | backward, of its own 10, waits 20 | optimizer 2
    rank 1  forward 30 | backward, of its own 10           | ...

Each backward issues an all_reduce half way through its own work and one at the end of it; all end
when the slowest is there and what the transfer takes is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.toy import Event, RankFacts, write_run

TRANSFER, OPTIMIZER = 4, 2
SCALE = 1_000_000
Lengths = Sequence[tuple[int, int]]
"""Of each rank, its own part of a forward and a backward."""


def write(path: Path, steps: Sequence[Lengths], *, dim: str = "dp") -> Path:
    """The run; times in ms."""
    ranks = range(len(steps[0]))
    group = f"{dim}:0-{len(ranks) - 1}"
    events: dict[int, list[Event]] = {rank: [] for rank in ranks}
    begin = 0
    for step, lengths in enumerate(steps):
        end = begin + max(map(sum, lengths)) + TRANSFER
        for rank, (forward, backward) in enumerate(lengths):
            common = {"step": step}
            middle = begin + forward
            events[rank] += [
                Event(start=begin, duration=end + OPTIMIZER - begin, kind="step", **common),
                Event(start=begin, duration=forward, kind="forward", name="Model", **common),
                Event(start=middle, duration=end - middle, kind="backward", **common),
                Event(start=end, duration=OPTIMIZER, kind="optimizer", **common),
                *(
                    Event(
                        start=middle + part, duration=0, kind="collective", name="all_reduce",
                        group=group, seq=2 * step + bucket, bytes=4, lane="host:unhooked",
                        correlation=2 * step + bucket + 1, **common,
                    )
                    for bucket, part in enumerate((backward // 2, backward))
                ),
            ]  # fmt: skip
        begin = end + OPTIMIZER
    groups = {group: {"dim": dim, "ranks": list(ranks)}}
    facts = {rank: RankFacts(coordinates={dim: rank}, groups=groups) for rank in ranks}
    return write_run(path, events, facts=facts, scale=SCALE)
