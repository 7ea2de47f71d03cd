"""Tables of events of which a part can be had without reading the rest."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

import pyarrow as pa


@runtime_checkable
class ByColumn(Protocol):
    """Tables of which a part can be had without the rest."""

    def part(self, rank: int, columns: Collection[str], steps: Collection[int] | None) -> pa.Table:
        """`rank` and these columns of at least the rows of these steps (of all rows if None), in
        order of start.
        """
