"""How far the difference of two means over steps can be trusted: a block bootstrap of both runs.

The steps of each run are drawn with replacement in blocks of neighbours, so that what lasts for
some steps stays together (moving blocks: Künsch, Ann. Statist. 17, 1989; wrapped round at the end:
Politis and Romano, 1992). A block has n^(1/3) steps (the rate that Hall, Horowitz and Jing,
Biometrika 82, 1995, find best for a variance). All columns of a step are drawn together.

Few steps say little about themselves, in two ways that are made up for:

- Blocks of length l know nothing of what lasts longer, and spread about the mean of the very steps
  that they come from. The spread is widened by as much as an AR(1) process of the run's own lag-1
  correlation, give or take its error, needs (`_widening`).
- The spread itself is uncertain. Each resample is divided by a draw of sqrt(chi²/df), which turns
  normal tails into Student's, with Welch's df of the numbers of blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.float64]
"""Shape (steps, columns)."""

FEWEST_STEPS: Final = 2
"""One step says nothing of how much steps vary."""
FEWEST_REPEATS: Final = 2
CONFIDENCE: Final = 0.95
RESAMPLES: Final = 10_000
_RESAMPLES_AT_ONCE: Final = 500
_DRAWS_AT_ONCE: Final = 2_000_000
"""Resamples × steps: 16 MB, however many steps there are. Of fewer, BLAS would wait longer for its
threads than it computes."""
_DRAWN_AT_ONCE: Final = 16
"""Resamples. Draws are whole numbers, and become the floating-point ones that BLAS takes."""
_SEED: Final = 20_260_101
"""Fixed, so that the same two runs always give the same interval."""
_AFTER_FIRST: Final[dict[int, Any]] = {}
"""By steps, the generator's state after the draws for the first run."""
_MOST_CORRELATED: Final = 0.9
"""Beyond, an interval would be over four times as wide as for independent steps."""
_NOTHING: Final = 1e-12
"""A spread or difference below this share of the values is the rounding of their sums."""


@dataclass(kw_only=True, slots=True, frozen=True)
class MeanDifference:
    """Mean of b - mean of a per column, shape (columns,), and how sure it is.

    half: half the width of each column's own interval, symmetric about `delta`.
    family_half: the same, so wide that all columns' intervals hold at once with the confidence
        (maximum of |t| over the columns: Westfall and Young, 1993).
    """

    delta: npt.NDArray[np.float64]
    half: npt.NDArray[np.float64]
    family_half: npt.NDArray[np.float64]

    def significant(self) -> npt.NDArray[np.bool_]:
        """Per column: does its interval leave out zero, all columns taken together?"""
        found: npt.NDArray[np.bool_] = np.abs(self.delta) > self.family_half
        return found


def mean_difference(a: Samples, b: Samples, *, families: int = 1) -> MeanDifference | None:
    """From a to b; None if either has fewer than `FEWEST_STEPS` steps.

    families: of how many comparisons, taken together, the family's confidence is (Bonferroni).
    """
    if min(len(a), len(b)) < FEWEST_STEPS:
        return None
    random = np.random.default_rng(_SEED)
    delta = b.mean(axis=0) - a.mean(axis=0)
    size = np.maximum(np.abs(a).max(axis=0), np.abs(b).max(axis=0))
    delta = np.where(np.abs(delta) > _NOTHING * size, delta, 0.0)
    spread_a, spread_b = _resampled(a, random, _AFTER_FIRST), _resampled(b, random, {})
    var_a, var_b = spread_a.var(axis=0), spread_b.var(axis=0)
    error = np.sqrt(var_a + var_b)
    varies = error > _NOTHING * size
    if not varies.any():
        return MeanDifference(
            delta=delta, half=np.zeros_like(delta), family_half=np.zeros_like(delta)
        )
    df = _welch(var_a[varies], var_b[varies], len(a), len(b))
    t = np.abs(spread_b - spread_a)[:, varies] / error[varies]
    t /= np.sqrt(random.chisquare(df, size=t.shape) / df)
    half, family_half = np.zeros_like(delta), np.zeros_like(delta)
    half[varies] = error[varies] * np.quantile(t, CONFIDENCE, axis=0)
    family_half[varies] = error[varies] * np.quantile(
        t.max(axis=1), 1 - (1 - CONFIDENCE) / families
    )
    return MeanDifference(delta=delta, half=half, family_half=family_half)


def difference_from_repeats(
    repeats: Samples, b: npt.NDArray[np.float64], *, families: int = 1
) -> MeanDifference:
    """From the mean of several recordings, shape (recordings, columns), to a single one.

    What is new in a recording is as uncertain as recordings of the same thing differ: a prediction
    interval, with the variance s^2 (1 + 1/k) and Student's k - 1 degrees of freedom (Hahn and
    Meeker, Statistical Intervals, 1991, section 4.8). Of a family, columns count as independent.

    Raises:
        ValueError: fewer than two recordings.
    """
    if len(repeats) < FEWEST_REPEATS:
        raise ValueError(f"{len(repeats)} recordings do not say how much recordings differ")
    random = np.random.default_rng(_SEED)
    k = len(repeats)
    delta = b - repeats.mean(axis=0)
    size = np.maximum(np.abs(repeats).max(axis=0), np.abs(b))
    delta = np.where(np.abs(delta) > _NOTHING * size, delta, 0.0)
    error = np.sqrt(repeats.var(axis=0, ddof=1) * (1 + 1 / k))
    error[error <= _NOTHING * size] = 0.0
    t = np.abs(random.standard_t(k - 1, (RESAMPLES, np.count_nonzero(error))))
    if t.size == 0:
        return MeanDifference(delta=delta, half=error, family_half=error)
    half = error * np.quantile(t, CONFIDENCE)
    family_half = error * np.quantile(t.max(axis=1), 1 - (1 - CONFIDENCE) / families)
    return MeanDifference(delta=delta, half=half, family_half=family_half)


def block_length(steps: int) -> int:
    """n^(1/3), rounded: 2 of 8 steps, 4 of 50, 10 of 1,000."""
    return max(1, round(float(steps ** (1 / 3))))


def _resampled(samples: Samples, random: np.random.Generator, after: dict[int, Any]) -> Samples:
    """Deviations of `RESAMPLES` resampled means from the mean, widened; shape (resamples, columns).

    after: the generator's states after the draws for so many steps, where it begins as it does now;
    this one is added. With it, no draws are needed for what does not vary.
    """
    steps, length = len(samples), block_length(len(samples))
    blocks = -(-steps // length)
    deviations = samples - samples.mean(axis=0)
    if steps in after and not deviations.any():
        random.bit_generator.state = after[steps]
        drawn = np.zeros((RESAMPLES, samples.shape[1]))
    else:
        drawn = _drawn(deviations, length, blocks, random)
        after[steps] = random.bit_generator.state
    found: Samples = drawn / blocks * _widening(deviations, length, blocks, random)
    return found


def _drawn(deviations: Samples, length: int, blocks: int, random: np.random.Generator) -> Samples:
    """Of each resample the sum of its blocks' means: counts of blocks times these, a part at a
    time. Shape (resamples, columns).
    """
    steps = len(deviations)
    means = np.zeros_like(deviations)
    for by in range(length):  # wrapped round at the end
        means[: steps - by] += deviations[by:]
        means[steps - by :] += deviations[:by]
    means /= length
    chances = np.full(steps, 1 / steps)
    at_once = min(max(_DRAWS_AT_ONCE // steps, 1), _RESAMPLES_AT_ONCE)
    counts = np.empty((at_once, steps))
    parts = []
    for done in range(0, RESAMPLES, at_once):
        some = counts[: RESAMPLES - done]
        for first in range(0, len(some), _DRAWN_AT_ONCE):
            rows = some[first : first + _DRAWN_AT_ONCE]
            rows[:] = random.multinomial(blocks, chances, size=len(rows))
        parts.append(some @ means)
    return np.concatenate(parts)


def _widening(
    deviations: Samples, length: int, blocks: int, random: np.random.Generator
) -> Samples:
    """True standard deviation of the mean over that of resampled means, for AR(1) columns.

    With V(m) the variance of the mean of m steps: block means spread by V(l) - V(n) about the
    mean of the run, and the mean of k of them by 1/k of that; without correlation that leaves
    sqrt(n / (n - l)) if l divides n. How correlated the steps are is not known exactly either:
    each resample draws it anew. Shape (resamples, columns).
    """
    steps = len(deviations)
    found = _correlation(deviations)
    error = np.sqrt((1 - found**2) / steps)
    r = random.normal(found, error, (RESAMPLES, len(found))).clip(0, _MOST_CORRELATED)
    whole = _variance_of_mean(steps, r)
    widening: Samples = np.sqrt(blocks * whole / (_variance_of_mean(length, r) - whole))
    return widening


def _variance_of_mean(m: int, r: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of m steps of an AR(1) process of variance 1 and lag-1 correlation r."""
    found: npt.NDArray[np.float64]
    found = ((1 + r) / (1 - r) - 2 * r * (1 - r**m) / (m * (1 - r) ** 2)) / m
    return found


def _correlation(deviations: Samples) -> npt.NDArray[np.float64]:
    """Lag-1 correlation per column, 0 to `_MOST_CORRELATED`; its bias of -(1 + 4r)/n is taken out
    (Marriott and Pope, Biometrika 41, 1954). Negative ones count as 0: they would narrow. Its
    standard error is sqrt((1 - r^2)/n) (Bartlett, J. R. Statist. Soc. Suppl. 8, 1946).
    """
    steps = len(deviations)
    whole = (deviations**2).sum(axis=0)
    products = (deviations[1:] * deviations[:-1]).sum(axis=0)
    r = np.divide(products, whole, out=np.zeros_like(whole), where=whole > 0)
    unbiased: npt.NDArray[np.float64] = r + (1 + 4 * r) / steps
    return unbiased.clip(0, _MOST_CORRELATED)


def _welch(
    var_a: npt.NDArray[np.float64], var_b: npt.NDArray[np.float64], steps_a: int, steps_b: int
) -> npt.NDArray[np.float64]:
    """Degrees of freedom of the difference of two means (Welch, Biometrika 34, 1947)."""
    df_a, df_b = (max(1.0, n / block_length(n) - 1) for n in (steps_a, steps_b))
    found: npt.NDArray[np.float64] = (var_a + var_b) ** 2 / (var_a**2 / df_a + var_b**2 / df_b)
    return found
