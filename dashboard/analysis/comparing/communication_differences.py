"""What two runs communicated differently: calls and bytes, which no chance is in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow.compute as pc

from dashboard.analysis.comparing.run_differences import Difference

if TYPE_CHECKING:
    import pyarrow as pa

    from dashboard.runs import Recording

_KINDS: Final = ("collective", "send")
"""Of a message its send: the receive is the same bytes once more."""
_COLUMNS: Final = ("kind", "name", "lane", "group", "bytes")
_NONE: Final = "none"


@dataclass(slots=True)
class _Asked:
    """What was asked for of one operation, by all ranks in all steps."""

    calls: int = 0
    bytes: int = 0
    unsized: int = 0


def communication_differences(
    a: Recording, b: Recording, steps_a: Sequence[int], steps_b: Sequence[int]
) -> tuple[Difference, ...]:
    """Operations by mesh dimension of which a rank did more or other ones per step, in the mean
    over ranks and steps; in the order of their names.

    A rank that all-reduced 2 × 4 MB and now another 16 → 2 calls, 8 MB → 3 calls, 24 MB
    """
    if not steps_a or not steps_b:
        return ()
    of_a, of_b = _said(a, steps_a), _said(b, steps_b)
    return tuple(
        Difference(what=f"{key}, per rank and step", a=of_a.get(key, _NONE), b=of_b.get(key, _NONE))
        for key in sorted(of_a.keys() | of_b.keys())
        if of_a.get(key) != of_b.get(key)
    )


def _said(run: Recording, steps: Sequence[int]) -> dict[str, str]:
    """`dp all_reduce` → `2 calls, 8 MB`."""
    each = len(run.ranks) * len(steps)
    found: dict[str, _Asked] = defaultdict(_Asked)
    for key, calls, sized, size in _asked(run, steps):
        total = found[key]
        total.calls += calls
        total.unsized += calls - sized
        total.bytes += size
    return {
        key: f"{total.calls / each:.4g} calls, "
        + ("of unknown size" if total.unsized else f"{total.bytes / each / 1e6:.4g} MB")
        for key, total in found.items()
    }


def _asked(run: Recording, steps: Sequence[int]) -> Iterator[tuple[str, int, int, int]]:
    """Per rank and operation: its name, calls, calls of known size, and bytes."""
    for rank in run.ranks:
        events = run.events(ranks=[rank], steps=steps, kinds=_KINDS, columns=_COLUMNS)
        for row in _by_operation(events).to_pylist():
            dim = (row["group"] or "").partition(":")[0]
            name = row["kind"] if row["kind"] == "send" else row["name"]
            key = f"{dim} {name}".strip()
            yield key, row["kind_count"], row["bytes_count"], row["bytes_sum"] or 0


def _by_operation(events: pa.Table) -> pa.Table:
    """Calls of the host: what a device did of them is the same operation once more."""
    calls = events.filter(pc.starts_with(events["lane"].cast("string"), "host:"))
    for name in ("kind", "name", "group"):
        index = calls.schema.get_field_index(name)
        calls = calls.set_column(index, name, calls[name].cast("string"))
    return calls.group_by(["kind", "name", "group"], use_threads=False).aggregate(
        [("kind", "count"), ("bytes", "count"), ("bytes", "sum")]
    )
