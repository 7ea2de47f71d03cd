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

from dashboard.analysis.bandwidth import BUS_FACTORS
from dashboard.analysis.results import Result
from dashboard.analysis.transfers import telling_transfers

_Floats: TypeAlias = npt.NDArray[np.float64]

MOST_SIZES: Final = 48
"""Sizes that are told apart; with more, neighbours are joined. All pairs of them are tried, and
that many are two thousand lines."""

LEAST_SPREAD: Final = 2.0
"""Largest over smallest size. Below it, alpha and beta follow from a small difference of large
times, so that the noise decides what is latency and what is bandwidth."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Line(Result):
    """alpha_ns and beta_gbps (1e9 B/s, a bus bandwidth) of one operation of one group.

    Both are None where its sizes do not tell them apart: with one size, or sizes within a factor
    of `LEAST_SPREAD`. beta_gbps alone is None where the time does not grow with the size: then
    alpha_ns is all there is to it. `why` says so.
    low_bytes, high_bytes: the sizes seen; between them the line is measured, beyond it is
    extrapolated. median_ns: of all times. count: operations, sizes: points of the fit, left_out:
    operations whose end nobody waited for. error: the median of |t(S) / t - 1| over the
    operations.
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
    all_of = _by_operation(operations)
    told = _by_operation(telling_transfers(operations))
    return tuple(_line(rows, all_of[key].num_rows) for key, rows in sorted(told.items()))


def _by_operation(operations: pa.Table) -> dict[tuple[str, str], pa.Table]:
    places: dict[tuple[str, str], list[int]] = {}
    pairs = zip(operations["group"].to_pylist(), operations["op"].to_pylist(), strict=True)
    for place, key in enumerate(pairs):
        places.setdefault(key, []).append(place)
    return {key: operations.take(pa.array(found)) for key, found in places.items()}


def _line(rows: pa.Table, all_count: int) -> Line:
    op, n = rows["op"][0].as_py(), rows["n"][0].as_py()
    size = rows["bytes"].to_numpy().astype(np.float64)
    time = rows["transfer_ns"].to_numpy().astype(np.float64)
    sizes, medians = _points(size, time)
    spread = sizes[-1] / sizes[0]
    alpha, beta, error, why = None, None, None, ""
    if len(sizes) == 1:
        why = "one message size does not tell latency from bandwidth"
    elif spread < LEAST_SPREAD:
        why = "sizes too close to each other to tell latency from bandwidth"
    else:
        factor = BUS_FACTORS[op](n)
        alpha, slope = best_line(sizes, medians)
        error = float(np.median(np.abs((alpha + slope * size) / time - 1)))
        if slope > 0:
            beta = factor / slope
        else:
            why = "the time does not grow with the size"
    return Line(
        group=rows["group"][0].as_py(),
        dim=rows["dim"][0].as_py(),
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
