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
    """Reads what is asked for and was not before; `last` gives all of it away."""

    def __init__(self, rows: Ints, read: Read, prepare: Callable[[pa.Table], pa.Table]) -> None:
        """rows: of each batch of the stream. prepare: is given rows in the order of the file."""
        self._rows = rows
        self._read = read
        self._prepare = prepare
        self._held: dict[int, pa.Table] = {}

    def columns(self, names: Collection[str], batches: Collection[int]) -> pa.Table:
        """At least the rows of these batches, these columns prepared."""
        self._add(batches)
        return self._prepare(self._in_order(names))

    def last(self, batches: Collection[int]) -> pa.Table:
        """The same with all columns. Nothing is held any more."""
        self._add(batches)
        rows = [self._in_order(None)]
        self._held.clear()
        return self._prepare(rows.pop())

    def _add(self, batches: Collection[int]) -> None:
        missing = sorted(set(batches).difference(self._held))
        if not missing and self._held:
            return
        table, begin = self._read(missing), 0
        if not missing:
            self._held[-1] = table  # nothing, with its columns
        for number in missing:
            self._held[number] = table.slice(begin, int(self._rows[number]))
            begin += int(self._rows[number])

    def _in_order(self, names: Collection[str] | None) -> pa.Table:
        parts = [self._held[number] for number in sorted(self._held)]
        if names is not None:
            parts = [part.select([*names]) for part in parts]
        return pa.concat_tables(parts).unify_dictionaries()
