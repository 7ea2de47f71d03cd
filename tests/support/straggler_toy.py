"""Steps on paper in which all ranks meet at the end: load data, work, maybe do nothing, all_reduce.

    rank 0  load 10 | forward 100            | all_reduce, from the last to arrive: 10
    rank 1  load 10 | forward 100            | ...
    step = 10 + 100 + 10 = 120, and by how much the slowest rank is slower, if one is

The forward may be in `parts` of equal length, one after the other; a stall is in the first of them.
A garbage collection lies inside the forward and makes it longer by itself. With `pairs`, the work
of the second of two ranks begins with a message from the first, which works before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.toy import Event, RankFacts, write_run
from tracer.schema import GARBAGE_COLLECTION

LOAD, WORK, TRANSFER, MESSAGE = 10, 100, 10, 4
STEP = LOAD + WORK + TRANSFER
SCALE = 1000
GROUP = "dp:all"
PIPELINE = "pp:all"


@dataclass(kw_only=True, frozen=True)
class More:
    """By how much a rank takes longer in a step, by what it does."""

    load: int = 0
    work: int = 0
    stall: int = 0
    garbage: int = 0
    gap: int = 0


@dataclass(kw_only=True)
class Toy:
    """`more[step, rank]`; `slow_link[pair]`: by how much the messages of that pair take longer."""

    ranks: int = 3
    steps: int = 8
    parts: int = 1
    more: Mapping[tuple[int, int], More] = field(default_factory=dict)
    pairs: bool = False
    slow_link: Mapping[int, int] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """The run; its ranks all do the same, in pairs the first and the second of each."""
        events: dict[int, list[Event]] = {rank: [] for rank in range(self.ranks)}
        begin = 0
        for step in range(self.steps):
            arrived = {}
            for rank in range(self.ranks):
                arrived[rank] = self._work(events, step, rank, begin, arrived)
            end = max(arrived.values()) + TRANSFER
            for rank, at in arrived.items():
                events[rank] += [_sum(step, at, end), _window(step, begin, end)]
            begin = end
        everyone = list(range(self.ranks))
        groups = {
            GROUP: {"dim": "dp", "ranks": everyone},
            PIPELINE: {"dim": "pp", "ranks": everyone},
        }
        facts = {rank: RankFacts(coordinates=self._place(rank), groups=groups) for rank in everyone}
        return write_run(path, events, facts=facts, scale=SCALE)

    def _place(self, rank: int) -> dict[str, int]:
        return {"dp": rank // 2, "pp": rank % 2} if self.pairs else {"dp": rank}

    def _work(
        self,
        events: Mapping[int, list[Event]],
        step: int,
        rank: int,
        begin: int,
        arrived: Mapping[int, int],
    ) -> int:
        """Everything before the all_reduce; when the rank is done with it."""
        more, mine = self.more.get((step, rank), More()), events[rank]
        now = begin + LOAD + more.load
        mine.append(Event(start=begin, duration=now - begin, kind="data", name="load", step=step))
        if self.pairs and rank % 2:
            now = self._message(events, step, rank, now, arrived[rank - 1])
        begin = now
        for part in range(self.parts):
            length = (WORK + more.work + more.garbage) // self.parts + more.stall * (part == 0)
            mine.append(
                Event(
                    start=now, duration=length, kind="forward", name="F", step=step,
                    stage=rank % 2 if self.pairs else None, microbatch=part,
                )
            )  # fmt: skip
            now += length
        if more.garbage:
            mine.append(
                Event(
                    start=begin + 1, duration=more.garbage, kind="user",
                    name=GARBAGE_COLLECTION, step=step,
                )
            )  # fmt: skip
        return now + more.gap

    def _message(
        self, events: Mapping[int, list[Event]], step: int, rank: int, now: int, sent: int
    ) -> int:
        end = sent + MESSAGE + self.slow_link.get(rank // 2, 0)
        common = {"step": step, "group": PIPELINE, "seq": step, "bytes": 400, "duration": 0}
        number = 10 * step
        events[rank - 1].append(
            Event(start=sent, kind="send", name="send", peer=rank, correlation=number, **common)
        )
        mine = {**common, "name": "recv", "peer": rank - 1, "correlation": number + 1}
        events[rank].append(Event(start=now, kind="recv", **mine))
        events[rank].append(Event(start=now, kind="wait", **(mine | {"duration": end - now})))
        return end


def _sum(step: int, at: int, end: int) -> Event:
    return Event(
        start=at, duration=end - at, kind="collective", name="all_reduce", step=step, group=GROUP,
        seq=step, bytes=400, count=100, dtype="float32",
    )  # fmt: skip


def _window(step: int, begin: int, end: int) -> Event:
    return Event(start=begin, duration=end - begin, kind="step", name="step", step=step)


def in_steps(steps: Sequence[int], rank: int, more: More) -> dict[tuple[int, int], More]:
    """`more` for one rank in each of those steps."""
    return {(step, rank): more for step in steps}
