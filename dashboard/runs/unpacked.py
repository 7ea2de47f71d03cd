"""Record batches of a rank's stream that one question looks at, each of them unpacked once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from dashboard.runs.contents import Ints

Read = Callable[[Collection[int]], pa.Table]
"""These record batches, in the order of the file."""


class Unpacked:
    """Gives out what it has, and reads what is asked for besides."""

    def __init__(self, rows: Ints, read: Read, prepare: Callable[[pa.Table], pa.Table]) -> None:
        """rows: of each batch of the stream. prepare: is given rows in the order of the file."""
        self._rows = rows
        self._read = read
        self._prepare = prepare
        self._held: dict[int, pa.Table] = {}
        self._prepared: pa.Table | None = None

    def with_batches(self, batches: Collection[int]) -> pa.Table:
        """At least the rows of these batches, prepared."""
        missing = sorted(set(batches).difference(self._held))
        if missing or self._prepared is None:
            self._prepared = None
            self._add(missing)
            self._prepared = self._prepare(self._in_order())
        return self._prepared

    def _add(self, missing: Collection[int]) -> None:
        table, begin = self._read(missing), 0
        if not missing:
            self._held.setdefault(-1, table)  # nothing, with its columns
        for number in missing:
            self._held[number] = table.slice(begin, int(self._rows[number]))
            begin += int(self._rows[number])

    def _in_order(self) -> pa.Table:
        parts = [self._held[number] for number in sorted(self._held)]
        return pa.concat_tables(parts).unify_dictionaries()
