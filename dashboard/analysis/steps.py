"""Step windows: when each step began and ended on each rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from dashboard.runs import Recording


def step_windows(
    run: Recording,
    steps: Collection[int] | None = None,
    *,
    ranks: Collection[int] | None = None,
) -> pa.Table:
    """Columns rank, step, start, duration (ns), ordered by rank and step; of all ranks, or `ranks`.

    Only steps that every readable rank completed, so that ranks can be laid side by side.
    """
    wanted = wanted_steps(run, steps)
    columns = ("step", "start", "duration")
    events = run.events(ranks=ranks, steps=wanted, kinds=("step",), columns=columns)
    return in_order(events)


def wanted_steps(run: Recording, steps: Collection[int] | None) -> list[int]:
    """The complete steps of the run, or those of them that are among `steps`; in order."""
    wanted = frozenset(run.steps if steps is None else steps)
    return [step for step in run.steps if step in wanted]


def in_order(windows: pa.Table) -> pa.Table:
    """By rank and step."""
    return windows.sort_by([("rank", "ascending"), ("step", "ascending")])


@dataclass(kw_only=True, slots=True)
class Windows:
    """The step windows of a chain: step → rank → (start, end), ns."""

    by_step: dict[int, dict[int, tuple[int, int]]]

    def of(self, rank: int) -> tuple[int, int]:
        """From the rank's first start to its last end."""
        spans = [ranks[rank] for ranks in self.by_step.values()]
        return spans[0][0], spans[-1][1]


def chained(run: Recording, steps: Collection[int] | None) -> Iterator[Windows]:
    """Windows in chains: a step begins a new one where some rank has a gap before it."""
    return chains([step_windows(run, steps)])


def chains(windows: Iterable[pa.Table]) -> Iterator[Windows]:
    """The same of windows that are known: those of some ranks in each table, in order of rank."""
    by_step: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    for table in windows:
        for row in table.to_pylist():
            by_step[row["step"]][row["rank"]] = (row["start"], row["start"] + row["duration"])
    chain: dict[int, dict[int, tuple[int, int]]] = {}
    before: dict[int, tuple[int, int]] = {}
    for step, ranks in sorted(by_step.items()):
        follows = all(before.get(rank, (0, -1))[1] == span[0] for rank, span in ranks.items())
        if chain and not follows:
            yield Windows(by_step=chain)
            chain = {}
        chain[step] = before = ranks
    if chain:
        yield Windows(by_step=chain)
