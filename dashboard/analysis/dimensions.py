"""What a mesh dimension is for, by its name: people call the same thing dp_shard, fsdp or data.

Names are those of torchtitan, Accelerate, Megatron-Core, DeepSpeed and torch's own tutorials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

Role: TypeAlias = Literal["tp", "pp", "dp", "other"]

_NAMES: Final[dict[str, Role]] = {
    **dict.fromkeys(("tp", "tensor", "tensor_parallel", "model", "model_parallel", "mp"), "tp"),
    **dict.fromkeys(("pp", "pipe", "pipeline", "pipeline_parallel"), "pp"),
    **dict.fromkeys(("dp", "data", "data_parallel", "ddp", "fsdp", "hsdp"), "dp"),
    **dict.fromkeys(("replicate", "shard", "batch", "efsdp"), "dp"),
}
_DATA_PREFIX: Final = "dp_"
"""dp_shard, dp_replicate, dp_shard_cp: data-parallel, whatever else they span."""


def role_of(dimension: str) -> Role:
    """`tp`, `pp` or `dp`, or `other`: of cp, ep and names that nobody here knows.

    dp_shard → dp, pipe → pp, cp → other
    """
    name = dimension.lower()
    return "dp" if name.startswith(_DATA_PREFIX) else _NAMES.get(name, "other")


def coordinate(coordinates: Mapping[str, int], role: Role) -> int | None:
    """The index in the dimension of that role; None where there is none."""
    return next((at for name, at in coordinates.items() if role_of(name) == role), None)
