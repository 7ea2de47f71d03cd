"""Process groups as PyTorch's own files name them: members, purpose, elements moved.

Kineto and the flight recorder write the same words; this file turns them into ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from tracer.schema import MAX_RANK
from tracer.topology import Group, Topology

_MEGATRON: Final = {
    "TENSOR_MODEL_PARALLEL_GROUP": "tp",
    "PIPELINE_MODEL_PARALLEL_GROUP": "pp",
    "DATA_PARALLEL_GROUP": "dp",
    "DATA_PARALLEL_GROUP_WITH_CP": "dp_cp",
    "CONTEXT_PARALLEL_GROUP": "cp",
    "EXPERT_MODEL_PARALLEL_GROUP": "ep",
    "EXPERT_TENSOR_PARALLEL_GROUP": "etp",
    "EXPERT_DATA_PARALLEL_GROUP": "edp",
}
"""Megatron-Core's descriptions of groups (parallel_state.py) → the dimension."""
_LIST: Final = re.compile(r"\[([-\d,\s.]*)\]")


def elements_moved(op: str, sent: int, received: int, members: int) -> int:
    """Elements of the payload as nccl-tests counts it, from those of input and output of a rank.

    all_gather counts its whole output, reduce_scatter its whole input, all_to_all the send buffer,
    gather and scatter the shares of all ranks together, the others the buffer itself
    (nccl-tests doc/PERFORMANCE.md).
    """
    if op in ("all_gather", "reduce_scatter"):
        return max(sent, received)
    if op == "gather":
        return sent * members
    if op == "scatter":
        return received * members
    if op == "recv":
        return received or sent
    return sent or received


def member_ranks(ranks: Any, size: int) -> tuple[int, ...]:
    """The members that a list or its text names; empty if that cannot be told.

    `"[0, 1, 2, 3]"` → 0, 1, 2, 3. Of a long list torch writes the first ones, `...`, and the last:
    `"[0, 8, ..., 56]"` with size 8 goes on in the same steps.
    """
    if isinstance(ranks, str):
        match = _LIST.fullmatch(ranks.strip())
        ranks = [part.strip() for part in match[1].split(",")] if match else []
    if not isinstance(ranks, Sequence):
        return ()
    named = [int(rank) for rank in ranks if str(rank).isdecimal() and len(str(rank)) < 9]
    if len(named) < len(ranks):
        return _continued(named, size) if "..." in ranks else ()
    return tuple(named) if _are_possible(named) else ()


def note_groups(topology: Topology, config: Any) -> dict[str, tuple[int, ...]]:
    """Tell the topology the groups of a `pg_config` that this rank is in; members by group name.

    Raises nothing: what is of the wrong form is left out.
    """
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except (ValueError, RecursionError):
            return {}
    found: dict[str, tuple[int, ...]] = {}
    for group in config if isinstance(config, list) else []:
        if not isinstance(group, Mapping):
            continue
        size = group.get("pg_size")
        ranks = member_ranks(group.get("ranks"), size if isinstance(size, int) else 0)
        if topology.rank in ranks:
            found[str(group.get("pg_name"))] = ranks
            if len(ranks) > 1:
                group_of(topology, ranks, str(group.get("pg_desc", "")))
    return found


def group_of(topology: Topology, ranks: Sequence[int], description: str) -> Group:
    """The group of these ranks, named by what its description says that it is for."""
    if description in _MEGATRON:
        topology.note_group(_MEGATRON[description], ranks)
        description = ""
    return topology.group(ranks, description[:100])


def _continued(named: list[int], size: int) -> tuple[int, ...]:
    """Members of which the first ones and the last are named, if they stand in equal steps."""
    first, last = named[:-1], named[-1] if named else 0
    steps = {after - before for before, after in pairwise(first)}
    if len(steps) != 1 or not 2 < size <= MAX_RANK:
        return ()
    step = steps.pop()
    ranks = range(first[0], first[0] + step * size, step) if step else range(0)
    return tuple(ranks) if ranks and ranks[-1] == last else ()


def _are_possible(ranks: Sequence[int]) -> bool:
    return bool(ranks) and len(set(ranks)) == len(ranks) and max(ranks) <= MAX_RANK
