"""In which order a rank of Megatron works on its stages and microbatches, and receives for them.

A rank's work is counted in virtual microbatches: with several model chunks it takes a group of
microbatches through its first chunk, then through the next one, and so on, before it begins the
next group. Backwards go through the chunks the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch.distributed as dist

from collectors.live.plans import one_forward_one_backward_order
from tracer.run_files import SchedulePlan

StageAndMicrobatch = tuple[int, int]


@dataclass(kw_only=True, slots=True, frozen=True)
class Order:
    """One call of a forward-backward function, as one rank of the pipeline sees it."""

    rank: int
    size: int
    chunks: int
    microbatches: int
    group: int
    """Microbatches that go through a chunk before the next chunk is worked on."""

    @property
    def stages(self) -> int:
        """Stages of the whole pipeline."""
        return self.size * self.chunks

    def stage(self, chunk: int) -> int:
        """Chunks lie round the pipeline in turn."""
        return self.rank + chunk * self.size

    def forwards(self) -> list[StageAndMicrobatch]:
        """Every forward of this rank, in order."""
        return self._through(range(self.chunks))

    def backwards(self) -> list[StageAndMicrobatch]:
        """Every backward of this rank, in order."""
        return self._through(range(self.chunks)[::-1])

    def activations_received(self) -> list[StageAndMicrobatch]:
        """For which forwards this rank receives: all but those of the first stage."""
        return [work for work in self.forwards() if work[0] > 0]

    def gradients_received(self) -> list[StageAndMicrobatch]:
        """For which backwards this rank receives: all but those of the last stage."""
        return [work for work in self.backwards() if work[0] < self.stages - 1]

    def plan(self) -> SchedulePlan:
        """The plan of all ranks; torch has names for the same schedules."""
        return SchedulePlan(
            name="Schedule1F1B" if self.chunks == 1 else "ScheduleInterleaved1F1B",
            stages=self.stages,
            microbatches=self.microbatches,
            virtual_stages=self.chunks,
            pipeline_size=self.size,
            plan={rank: tuple(replace(self, rank=rank)._actions()) for rank in range(self.size)},
        )

    def _through(self, chunks: range) -> list[StageAndMicrobatch]:
        return [
            (self.stage(chunk), microbatch)
            for first in range(0, self.microbatches, self.group)
            for chunk in chunks
            for microbatch in range(first, min(first + self.group, self.microbatches))
        ]

    def _actions(self) -> list[str]:
        if self.chunks == 1:
            return one_forward_one_backward_order(self.rank, self.size, self.microbatches)
        forwards = [f"{stage}F{microbatch}" for stage, microbatch in self.forwards()]
        backwards = [f"{stage}B{microbatch}" for stage, microbatch in self.backwards()]
        ahead = (self.size - self.rank - 1) * 2 + (self.chunks - 1) * self.group
        steady = [
            action for pair in zip(forwards[ahead:], backwards, strict=False) for action in pair
        ]
        return forwards[:ahead] + steady + backwards[len(forwards[ahead:]) :]


def order_of(schedules: ModuleType, kwargs: dict[str, Any]) -> tuple[Any, Order, list[int]]:
    """The model's configuration, this rank's order, and the pipeline's global ranks."""
    model = kwargs["model"]
    chunks = model if isinstance(model, list) else [model]
    config = schedules.get_model_config(chunks[0])
    group = _pipeline_group(schedules, kwargs)
    microbatches = kwargs["num_microbatches"]
    several = len(chunks) > 1
    order = Order(
        rank=group.rank(),
        size=group.size(),
        chunks=len(chunks),
        microbatches=microbatches,
        group=config.microbatch_group_size_per_vp_stage if several else max(microbatches, 1),
    )
    return config, order, dist.get_process_group_ranks(group)


def _pipeline_group(schedules: ModuleType, kwargs: dict[str, Any]) -> dist.ProcessGroup:
    communicator, groups = kwargs.get("p2p_communicator"), kwargs.get("pg_collection")
    if communicator is not None:
        return communicator.pp_group  # type: ignore[no-any-return]
    if groups is not None:
        return groups.pp  # type: ignore[no-any-return]
    return schedules.parallel_state.get_pipeline_model_parallel_group()  # type: ignore[no-any-return]


def has_own_order(config: Any) -> bool:
    """Two options bring schedules of their own, whose order we do not know."""
    return bool(
        getattr(config, "overlap_moe_expert_parallel_comm", False)
        or getattr(config, "hybrid_context_parallel", False)
    )
