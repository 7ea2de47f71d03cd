"""Latency and bandwidth of each group and operation: the line through its times by size.

    t(S) = alpha + S x factor(op, n) / beta

is the model of Hockney (1994) in the terms of nccl-tests: alpha is what an operation costs however
small it is, beta the bus bandwidth that it comes to when it is large. The times are skew-free.

The fit: each size is one point, the median of its times. Of all lines with alpha >= 0 and
beta > 0 the one with the least sum of absolute *relative* deviations, sum |t(S) / t - 1|, is taken:
relative, since sizes span factors of a million, absolute, since squares would follow outliers. It
is exact: the best such line passes through two of the points, or through one if a limit binds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dashboard.analysis.communication.bandwidth import BUS_FACTORS
from dashboard.analysis.communication.transfers import telling_transfers
from dashboard.analysis.results import Result

_Floats: TypeAlias = npt.NDArray[np.float64]

MOST_SIZES: Final = 48
"""Sizes that are told apart; with more, neighbours are joined. All pairs of them are tried, and
that many are two thousand lines."""

LEAST_SPREAD: Final = 2.0
"""Largest over smallest size. Below it, alpha and beta follow from a small difference of large
times, so that the noise decides what is latency and what is bandwidth."""


RARE: Final = 0.05
"""Of the operations of the most frequent size: sizes with fewer are left out. A few messages of
some bytes, sent once when a pipeline is set up, would weigh as much as a thousand that follow."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Line(Result):
    """alpha_ns and beta_gbps (1e9 B/s, a bus bandwidth) of one operation of one group.

    Both are None where its sizes do not tell them apart: with one size, or sizes within a factor
    of `LEAST_SPREAD`. beta_gbps alone is None where the time does not grow with the size: then
    alpha_ns is all there is to it. `why` says so.
    low_bytes, high_bytes: the sizes seen; between them the line is measured, beyond it is
    extrapolated. median_ns: of all times. count: operations, sizes: points of the fit, left_out:
    operations whose end nobody waited for, or of sizes that are `RARE`. error: the median of
    |t(S) / t - 1| over the operations.
    """

    group: str
    dim: str
    op: str
    n: int
    alpha_ns: float | None
    beta_gbps: float | None
    error: float | None
    count: int
    sizes: int
    low_bytes: int
    high_bytes: int
    median_ns: float
    left_out: int
    why: str = ""

    def predict_ns(self, bytes_: float, n: int | None = None) -> float | None:
        """Skew-free time of the operation with `bytes_` (S, as nccl-tests counts), over `n` ranks
        (the group's own by default); alpha is taken not to change with n. None without a line,
        but for the very size that was measured.
        """
        if self.alpha_ns is None:
            known = bytes_ == self.low_bytes == self.high_bytes and n in (None, self.n)
            return self.median_ns if known else None
        if self.beta_gbps is None:
            return self.alpha_ns
        return self.alpha_ns + bytes_ * BUS_FACTORS[self.op](n or self.n) / self.beta_gbps


def fit_lines(operations: pa.Table) -> tuple[Line, ...]:
    """One line per group and op of `Bandwidth.operations`, by name; messages of all pairs of a
    group together. Operations of which no end was waited for have none.

    Before (transfer_ns of p2p)        After (Line)
    100 B: 30, 30, 32                  alpha_ns 20, beta_gbps 10, error 0
    1000 B: 120, 120                   (2 sizes, 5 operations)
    """
    counts = operations.group_by(["group", "op"]).aggregate([("bytes", "count")])
    all_of = {(group, op): n for group, op, n in zip(*(c.to_pylist() for c in counts), strict=True)}
    told = telling_transfers(operations).group_by(["group", "op", "dim", "n"], use_threads=False)
    grouped = told.aggregate([("bytes", "list"), ("transfer_ns", "list")])
    grouped = grouped.sort_by([("group", "ascending"), ("op", "ascending")])
    found = []
    for row in range(grouped.num_rows):
        group, op, dim, n = (grouped[name][row].as_py() for name in ("group", "op", "dim", "n"))
        size, time = (
            grouped[name][row].values.to_numpy().astype(np.float64)
            for name in ("bytes_list", "transfer_ns_list")
        )
        found.append(_line(group, op, dim, n, size, time, all_of[group, op]))
    return tuple(found)


def _line(
    group: str, op: str, dim: str, n: int, size: _Floats, time: _Floats, all_count: int
) -> Line:
    common = _common(size)
    size, time = size[common], time[common]
    sizes, medians = _points(size, time)
    spread = sizes[-1] / sizes[0]
    alpha, beta, error, why = None, None, None, ""
    if len(sizes) == 1:
        why = "one message size does not tell latency from bandwidth"
    elif spread < LEAST_SPREAD:
        why = "sizes too close to each other to tell latency from bandwidth"
    else:
        alpha, slope = best_line(sizes, medians)
        error = float(np.median(np.abs((alpha + slope * size) / time - 1)))
        if slope > 0:
            beta = BUS_FACTORS[op](n) / slope
        else:
            why = "the time does not grow with the size"
    return Line(
        group=group,
        dim=dim,
        op=op,
        n=n,
        alpha_ns=alpha,
        beta_gbps=beta,
        error=error,
        count=len(size),
        sizes=len(sizes),
        low_bytes=int(size.min()),
        high_bytes=int(size.max()),
        median_ns=float(np.median(time)),
        left_out=all_count - len(size),
        why=why,
    )


def _common(size: _Floats) -> npt.NDArray[np.bool_]:
    """Which operations are of a size that is not rare."""
    _, which, counts = np.unique(size, return_inverse=True, return_counts=True)
    common: npt.NDArray[np.bool_] = counts[which] >= RARE * counts.max()
    return common


def best_line(size: _Floats, time: _Floats) -> tuple[float, float]:
    """(alpha >= 0, slope >= 0) with the least sum of |(alpha + slope x size) / time - 1|.

    `size` and `time` are of equal length and over 0, the sizes different and in order.
    """
    first, second = np.triu_indices(len(size), k=1)
    slope = (time[second] - time[first]) / (size[second] - size[first])
    alpha = time[first] - slope * size[first]
    possible = (slope >= 0) & (alpha >= 0)
    nothing = np.zeros(len(size))
    # Where a limit binds: no latency at all, or a time that does not grow.
    alphas = np.concatenate([alpha[possible], nothing, time])
    slopes = np.concatenate([slope[possible], time / size, nothing])
    lines = alphas[:, None] + slopes[:, None] * size[None, :]
    best = int(np.argmin(np.abs(lines / time[None, :] - 1).sum(axis=1)))
    return float(alphas[best]), float(slopes[best])


def _points(size: _Floats, time: _Floats) -> tuple[_Floats, _Floats]:
    """Each size (or class of neighbouring sizes) in order, and the median of its times."""
    different = np.unique(size)
    classes = np.array_split(different, min(len(different), MOST_SIZES))
    found = [(size >= c[0]) & (size <= c[-1]) for c in classes]
    return (
        np.array([np.median(size[mine]) for mine in found]),
        np.array([np.median(time[mine]) for mine in found]),
    )
