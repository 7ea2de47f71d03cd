"""Tables of events of which a part can be had, or all without being kept, and their numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.arrays import numpy_numbers

Test = Callable[[str], bool]
"""Whether something is wanted, by its name."""


@runtime_checkable
class ByColumn(Protocol):
    """Tables of which a part can be had without the rest."""

    def part(
        self,
        rank: int,
        columns: Collection[str],
        steps: Collection[int] | None,
        kinds: Collection[str] | None = None,
        lanes: Test | None = None,
    ) -> pa.Table:
        """`rank` and these columns of at least the rows of these steps and kinds and on lanes of
        which `lanes` is true (of all where None), in order of start.
        """


@runtime_checkable
class Once(Protocol):
    """Tables that are kept for the next who asks, unless they are asked for here."""

    def once(self, rank: int) -> pa.Table:
        """The events of a rank for who goes through all ranks: they are not kept."""


@runtime_checkable
class InParts(Protocol):
    """Tables that can be had in parts, so that not all of a rank is in memory."""

    def in_parts(
        self, rank: int, columns: Collection[str], take: Callable[[pa.Table], None]
    ) -> None:
        """Give `take` all events of a rank, `rank` and these columns, in some order; each part is
        in order of start.
        """


def once(tables: Mapping[int, pa.Table], rank: int) -> pa.Table:
    """The events of a rank; who goes through all ranks holds one at a time in memory."""
    return tables.once(rank) if isinstance(tables, Once) else tables[rank]


def in_parts(
    tables: Mapping[int, pa.Table],
    rank: int,
    columns: Collection[str],
    take: Callable[[pa.Table], None],
) -> None:
    """See `InParts`; tables that are in memory are one part."""
    if isinstance(tables, InParts):
        tables.in_parts(rank, columns, take)
    else:
        take(tables[rank].select(["rank", *columns]))


def numbers(column: pa.ChunkedArray, *, null: float = 0) -> npt.NDArray[Any]:
    """The numbers or truth values of a column, and `null` where it has none; without nulls as they
    lie in memory if it is one chunk. `to_numpy` imports pandas, where that is installed.
    """
    chunks = [numpy_numbers(chunk, null=null) for chunk in column.chunks]
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate(chunks) if chunks else np.zeros(0, column.type.to_pandas_dtype())


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The different numbers, in order. `np.unique` says the same, and imports `numpy.ma` to do so:
    7 ms and 2 MB.
    """
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), np.bool_)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]
