"""Waits that nobody recorded: of a backward for the collectives that C++ issued in it.

DistributedDataParallel on gloo: the reducer issues a collective as soon as the gradients of a
bucket are there, and the backward returns when the last one is complete. Issuing never waits. So
what comes before the last one was issued is the rank's own work, and from there on the backward
waits, for whoever issues it last:

    rank 0  forward ▏ backward ···· all_reduce ─── waits ─────▏ optimizer
    rank 1  forward ───▏ backward ········· all_reduce ───────▏ optimizer

What a backward still computes after its last collective is taken for waiting as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.dimensions import role_of
from dashboard.analysis.lanes_of_kinds import lanes_of_kinds
from dashboard.analysis.rows_by_key import Ints
from dashboard.runs.words import fulfil, have

if TYPE_CHECKING:
    from dashboard.runs import Recording

UNHOOKED: Final = "host:unhooked"
"""The lane of operations that torch's flight recorder told of: with a start, without an end."""
_BACKWARDS: Final = ("backward", "backward_input", "backward_weight")
_WITHIN_A_LAYER: Final = ("tp", "pp")
"""Roles of groups whose collectives are waited for at once, with more work behind them."""


def ends_are_unknown(run: Recording, rank: int) -> bool:
    """Whether collectives were found that nobody's call or wait was seen of, and no transfer."""
    lanes = lanes_of_kinds(run, rank).get("collective", frozenset())
    return UNHOOKED in lanes and not any(lane.startswith("device:") for lane in lanes)


def unseen_waits(events: pa.Table) -> pa.Table:
    """Events of kind `wait`, of those of one rank whose ends are unknown: each of a backward's last
    collective that C++ issued, from its issue on to the end of the backward, on its lane.

    backward 10..50, all_reduces issued in it at 20 and at 30 → wait all_reduce 30..50
    """
    within = fulfil(
        events["group"], lambda group: role_of(group.partition(":")[0]) in _WITHIN_A_LAYER
    )
    unhooked = pc.and_(have(events["lane"], (UNHOOKED,)), pc.invert(within))
    issued = events.filter(pc.and_(unhooked, have(events["kind"], ("collective",)))).sort_by(
        "start"
    )
    backwards = events.filter(have(events["kind"], _BACKWARDS)).sort_by("start")
    start = backwards["start"].to_numpy()
    end = start + backwards["duration"].to_numpy()
    of = _last_within(issued["start"].to_numpy(), start, end)
    chosen = np.flatnonzero(of >= 0)
    found, around = issued.take(pa.array(chosen)), pa.array(of[chosen])
    waits = {
        "duration": pa.array(end[of[chosen]] - found["start"].to_numpy()),
        "kind": pa.array(["wait"] * len(chosen), pa.string()),
        "lane": backwards["lane"].take(around),
    }
    for name, values in waits.items():
        field = found.schema.field(name)
        found = found.set_column(found.column_names.index(name), field, values.cast(field.type))
    return found


def _last_within(issued: Ints, start: Ints, end: Ints) -> Ints:
    """For each instant (in order) the span that it is the last one in, -1 for none; of spans inside
    others the inner one.

    `[20, 30, 60], [10], [50]` → `[-1, 0, -1]`
    """
    at = np.searchsorted(start, issued, side="right") - 1
    inside = at >= 0
    inside[inside] = issued[inside] < end[at[inside]]
    at = np.where(inside, at, -1)
    is_last = np.append(at[1:] != at[:-1], np.ones(min(len(at), 1), np.bool_))
    return np.where(is_last, at, -1)
