"""Where the step time changed for good: steps from which on it has another level.

Pettitt's test (A non-parametric approach to the change-point problem, Applied Statistics 28, 1979)
finds the one step at which a series parts best into a lower and a higher half: by ranks, so that
single slow steps count little. It is applied to the series and to windows of it, since a rise that
a fall follows parts no whole (seeded binary segmentation, Kovács et al., Biometrika 110, 2023), and
again to both parts until it finds nothing more. Where one half is much shorter than the other, the
slowest steps of the longer one rank as high as those of the shorter one, and the test's place is a
few steps off; so each place is then moved to where the steps lie closest to the two levels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.comparing.compare import RELEVANT
from dashboard.analysis.comparing.compared_steps import warm_steps
from dashboard.analysis.results import Result
from dashboard.analysis.time_spent.accounting import Accounting, account
from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.analysis.whole_run.summary import step_times

if TYPE_CHECKING:
    from dashboard.runs import Recording

SURE: Final = 0.01
"""Probability by chance under which a change counts. The test is made several times and steps are
not independent, so that the usual 0.05 would find changes in quiet runs."""
FEWEST: Final = 5
"""Steps on either side: a median of fewer is no level."""

_LEAST_WINDOW: Final = 20
"""Steps: in fewer the test finds only what is perfectly apart."""

_Floats = npt.NDArray[np.float64]


@dataclass(kw_only=True, frozen=True)
class ChangePoint(Result):
    """From `step` on, which starts at `start` (ns), steps take after_ns instead of before_ns: the
    medians of the steps up to the next change point on either side.

    chance: the test's probability of so clear a parting by chance. category: the one of the
    accounting whose mean per step and rank changed most in that direction, and by how much, ns.
    """

    step: int
    start: int
    before_ns: float
    after_ns: float
    chance: float
    category: str
    category_ns: float

    @property
    def relative(self) -> float:
        """after / before − 1: more than 0 is a regression."""
        return self.after_ns / self.before_ns - 1


def change_points(run: Recording, steps: Collection[int] | None = None) -> tuple[ChangePoint, ...]:
    """Of all complete steps, or of those of `steps`, in order; the run's first step warms up."""
    accounting = run.answer(account, warm_steps(run, steps))
    times = step_times(accounting)
    if not times.num_rows:
        return ()
    lengths, numbers = times["median_ns"].to_numpy(), times["step"].to_pylist()
    found = dict(sorted(_parted(lengths, 0)))
    splits = _relevant(lengths, list(found))
    edges = [0, *moved(lengths, splits), len(lengths)]
    points = []
    for split, begin, at, end in zip(splits, edges, edges[1:], edges[2:], strict=False):
        before, after = np.median(lengths[begin:at]), np.median(lengths[at:end])
        category, changed = _most_changed(
            accounting, numbers[begin:at], numbers[at:end], rises=bool(after > before)
        )
        points.append(
            ChangePoint(
                step=numbers[at],
                start=times["start"][at].as_py(),
                before_ns=float(before),
                after_ns=float(after),
                chance=found[split],
                category=category,
                category_ns=changed,
            )
        )
    return tuple(points)


def pettitt(values: _Floats) -> tuple[int, float]:
    """Where the series parts best (the index of the second part's first value), and the
    probability of that by chance: 2 exp(−6 K² / (n³ + n²)), at most 1.

    U(k) = Σ sgn(x_j − x_i) over all i < k ≤ j, which is k (n + 1) − 2 Σ of the first k ranks; K is
    the largest |U|. Ten times 100, then ten times 110: K = 100, chance 2 exp(−600/84) = 0.0016.
    """
    n = len(values)
    if n < 2:
        return 0, 1.0
    k = np.arange(1, n)
    u = np.abs(k * (n + 1) - 2 * np.cumsum(_ranks(values))[:-1])
    at = int(np.argmax(u))
    chance = 2 * np.exp(-6 * u[at] ** 2 / (n**3 + n**2))
    return int(k[at]), min(float(chance), 1.0)


def _ranks(values: _Floats) -> _Floats:
    """Ranks from 1; equal values share their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: _Floats = (last - (counts - 1) / 2)[inverse]
    return middle


def _parted(values: _Floats, offset: int) -> Iterator[tuple[int, float]]:
    """All partings of the series and of its parts: index, and the chance of the clearest one times
    the number of windows that were tried (Bonferroni).
    """
    windows = list(_windows(len(values)))
    tried = [(*pettitt(values[begin:end]), begin) for begin, end in windows]
    at, chance, begin = min(tried, key=lambda found: found[1])
    at, chance = at + begin, chance * len(windows)
    if chance >= SURE or min(at, len(values) - at) < FEWEST:
        return
    yield offset + at, chance
    yield from _parted(values[:at], offset)
    yield from _parted(values[at:], offset + at)


def _windows(length: int) -> Iterator[tuple[int, int]]:
    """The whole, and windows of a half, a quarter, … of it, each overlapping the next by half."""
    yield 0, length
    size = length // 2
    while size >= _LEAST_WINDOW:
        for begin in range(0, length - size + 1, size // 2):
            yield begin, begin + size
        size //= 2


def _relevant(values: _Floats, splits: list[int]) -> list[int]:
    """Without those that change the level by less than `RELEVANT`, the smallest first."""
    kept = list(splits)
    while kept:
        parts = np.split(values, kept)
        levels = np.array([np.median(part) for part in parts])
        changes = np.abs(np.diff(levels)) / levels[:-1]
        least = int(np.argmin(changes))
        if changes[least] >= RELEVANT:
            break
        del kept[least]
    return kept


def moved(values: _Floats, splits: list[int]) -> list[int]:
    """Each split to where the values before and after it lie closest to the medians of their parts
    (least sum of absolute distances: the likeliest place under Laplace's noise), with at least
    `FEWEST` values between two.

    Eight times 100, four times 110, split at 9 → the medians are 100 and 110, and 8 is closest.
    """
    places = list(splits)
    for number, split in enumerate(splits):
        begin = places[number - 1] if number else 0
        end = splits[number + 1] if number + 1 < len(splits) else len(values)
        part = values[begin:end]
        farther = np.abs(part - np.median(values[begin:split]))
        farther -= np.abs(part - np.median(values[split:end]))
        costs = np.cumsum(farther)[FEWEST - 1 : len(part) - FEWEST]  # of a split after each
        places[number] = begin + FEWEST + int(np.argmin(costs))
    return places


def _most_changed(
    accounting: Accounting, before: list[int], after: list[int], *, rises: bool
) -> tuple[str, float]:
    means = [_means(accounting, steps) for steps in (before, after)]
    changes = {name: means[1].get(name, 0.0) - means[0].get(name, 0.0) for name in CATEGORIES}
    most = (max if rises else min)(CATEGORIES, key=lambda name: changes[name])
    return most, changes[most]


def _means(accounting: Accounting, steps: list[int]) -> dict[str, float]:
    """Per category, ns per step and rank."""
    mine = accounting.table.filter(pc.is_in(accounting.table["step"], pa.array(steps, pa.int32())))
    summed = mine.group_by("category").aggregate([("duration", "sum")])
    windows = len(steps) * max(len(pc.unique(mine["rank"])), 1)
    return {row["category"]: row["duration_sum"] / windows for row in summed.to_pylist()}
