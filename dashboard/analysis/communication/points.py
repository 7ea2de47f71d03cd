"""The instants of a run that wait or are waited for, numbered in order of time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from dashboard.analysis.communication.matching import Row
from dashboard.analysis.communication.waiting import Block
from dashboard.analysis.steps import Windows

Ints = npt.NDArray[np.int64]


class Points:
    """The instants of all ranks, numbered in order of time."""

    def __init__(
        self,
        spans: dict[int, tuple[int, int]],
        windows: Windows,
        blocks: Iterable[Block],
        arrivals: dict[tuple[str, int], list[Row]],
    ) -> None:
        found: dict[int, set[int]] = {rank: set(span) for rank, span in spans.items()}
        for ranks in windows.by_step.values():
            for rank, (_, end) in ranks.items():
                found[rank].add(end)
        for block in blocks:
            found[block.row["rank"]].update((block.row["start"], block.begin, block.end))
        self.times = {rank: np.array(sorted(times), np.int64) for rank, times in found.items()}
        last = [max(row["start"] for row in members) for members in arrivals.values()]
        time = np.concatenate([*self.times.values(), np.array(last, np.int64)])
        of_rank = np.concatenate(
            [np.full(len(times), r, np.int32) for r, times in self.times.items()]
            + [np.full(len(last), -1, np.int32)]
        )
        # At one instant, an arrival comes after what it collects.
        order = np.lexsort((of_rank < 0, time))
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        self.time, self.rank = time[order], of_rank[order]
        self.numbers: dict[int, Ints] = {}
        at = 0
        for r, times in self.times.items():
            self.numbers[r] = number[at : at + len(times)]
            at += len(times)
        self._arrivals = dict(zip(arrivals, number[at:].tolist(), strict=True))

    def of(self, rank: int, time: int) -> int:
        """The number of the point at `time` of `rank`, which must be one."""
        return int(self.numbers[rank][np.searchsorted(self.times[rank], time)])

    def arrival(self, key: tuple[str, int]) -> int:
        """The number of the last arrival at a collective."""
        return int(self._arrivals[key])
