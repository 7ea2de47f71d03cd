"""Names for the process groups of Megatron-Core, which lays out its ranks without a mesh."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Final

import torch.distributed as dist

from tracer.topology import Topology

_GROUPS: Final[tuple[tuple[str, str, Mapping[str, bool]], ...]] = (
    ("pp", "get_pipeline_model_parallel_group", {}),
    ("tp", "get_tensor_model_parallel_group", {}),
    ("cp", "get_context_parallel_group", {}),
    ("dp", "get_data_parallel_group", {}),
    ("dp_cp", "get_data_parallel_group", {"with_context_parallel": True}),
    ("ep", "get_expert_model_parallel_group", {}),
    ("etp", "get_expert_tensor_parallel_group", {}),
    ("edp", "get_expert_data_parallel_group", {}),
)
"""Dimension → function of `parallel_state`. Of groups over the same ranks the first one names."""


def note_groups(topology: Topology, state: ModuleType) -> None:
    """Tell the groups of this rank once `parallel_state` has them."""
    if not state.model_parallel_is_initialized():
        return
    for dimension, getter, how in _GROUPS:
        group = getattr(state, getter)(**how) if hasattr(state, getter) else None
        if isinstance(group, dist.ProcessGroup):
            topology.note_group(dimension, dist.get_process_group_ranks(group))
