"""The instants of a run that wait or are waited for, numbered in order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dashboard.analysis.rows_by_key import Ints, numbered


@dataclass(kw_only=True, frozen=True)
class Points:
    """The instants of all ranks, and the last arrivals at collectives, in order of time.

    time, rank (-1 for an arrival): of each point. number: of the instants in order of rank and
    time, each rank's from `bounds[r]` to `bounds[r + 1]`, the number of their points; then those of
    the arrivals. of: of each instant that was asked for, its place in `number`.
    """

    time: Ints
    rank: npt.NDArray[np.int32]
    number: Ints
    bounds: Ints
    of: tuple[Ints, ...]

    def numbers(self, asked: int) -> Ints:
        """The points of the instants that were asked for."""
        return self.number[self.of[asked]]

    @property
    def arrivals(self) -> Ints:
        """The points of the last arrivals."""
        return self.number[self.bounds[-1] :]


def points_of(
    ranks: npt.NDArray[np.int32], asked: list[tuple[Ints, Ints]], arrivals: Ints
) -> Points:
    """asked: instants as places of their ranks in `ranks`, and times (ns); each rank has one.
    arrivals: when the last member of each collective came, ns.
    """
    place = np.concatenate([places for places, _ in asked])
    time = np.concatenate([times for _, times in asked])
    first, of = numbered(place, time)
    known, times = place[first], np.concatenate([time[first], arrivals])
    is_arrival = np.arange(len(times)) >= len(first)
    # At one instant, an arrival comes after what it collects.
    order = np.lexsort((is_arrival, times))
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    of_rank = np.concatenate([ranks[known], np.full(len(arrivals), -1, np.int32)])
    ends = np.cumsum([len(places) for places, _ in asked])[:-1]
    return Points(
        time=times[order],
        rank=of_rank[order],
        number=number,
        bounds=np.searchsorted(known, np.arange(len(ranks) + 1)),
        of=tuple(np.split(of, ends)),
    )
