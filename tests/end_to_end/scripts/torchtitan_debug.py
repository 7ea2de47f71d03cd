# ruff: noqa: E402 - the stand-ins come before what reads them
"""Train torchtitan's llama3 debug model with torchtitan's own `Trainer`, on CPU with gloo.

torchtitan asks for a GPU, a tokenizer file and a dataset. Stand-ins answer for these alone: the
CPU reports the memory figures of a device, and the data are random tokens. The model, its
parallelization, the schedule, the optimizer and the loop are torchtitan's.

Usage: torchtitan_debug.py SCHEDULE DEGREE(pipeline) DEGREE(FSDP) FILE(parameters)
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import Schedule1F1B

if importlib.util.find_spec("triton") is None:
    # Only the dispatch of experts needs it, which this model has none of.
    for name in ("minimal_async_ep", "minimal_async_ep.api"):
        sys.modules[f"torchtitan.distributed.{name}"] = MagicMock()

torch._utils._get_available_device_type = lambda: "cpu"
torch.cpu.get_device_name = lambda device=None: "CPU"
torch.cpu.get_device_properties = lambda device=None: SimpleNamespace(total_memory=1 << 30)
torch.cpu.memory_stats = lambda device=None: {}
torch.cpu.current_device = lambda: 0
if not hasattr(torch.distributed, "set_timeout"):
    torch.distributed.set_timeout = lambda timeout, group=None: None
torch.cpu.reset_peak_memory_stats = torch.cpu.empty_cache = lambda: None

from torchtitan.components.dataloader import BaseDataLoader
from torchtitan.components.loss import CrossEntropyLoss
from torchtitan.components.tokenizer import BaseTokenizer
from torchtitan.config import ParallelismConfig
from torchtitan.models.common.attention import ScaledDotProductAttention
from torchtitan.models.common.config_utils import decoder_vocab_size
from torchtitan.models.llama3 import model_registry
from torchtitan.models.llama3.config_registry import llama3_debugmodel
from torchtitan.trainer import Trainer

STEPS, MICROBATCHES, LENGTH = 3, 4, 32


class NoTokenizer(BaseTokenizer):
    """The data are tokens already."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseTokenizer.Config):
        pass

    def __init__(self, config: Config, *, tokenizer_path: str) -> None:
        super().__init__()

    def encode(self, *args: Any, **kwargs: Any) -> list[int]:
        raise NotImplementedError

    def decode(self, *args: Any, **kwargs: Any) -> str:
        raise NotImplementedError

    def get_vocab_size(self) -> int:
        return 2048


class RandomTokens(BaseDataLoader):
    """The same microbatches in every run, other ones per data-parallel rank."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        pass

    def __init__(
        self, config: Config, *, dp_rank: int, seq_len: int, local_batch_size: int, **unused: Any
    ) -> None:
        self._generator = torch.Generator().manual_seed(dp_rank)
        self._shape = local_batch_size, seq_len + 1

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        while True:
            tokens = torch.randint(0, 2048, self._shape, generator=self._generator)
            yield {"input": tokens[:, :-1]}, tokens[:, 1:]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def takes_microbatches() -> bool:
    return "arg_mbs" in inspect.signature(Schedule1F1B.step).parameters


def sum_gradients(module: FSDPModule, factor: float) -> None:
    """gloo has no reduction that scales, which FSDP would take for a factor of its own."""
    set_factor(module, factor)
    module.set_force_sum_reduction_for_comms(True)


set_factor = FSDPModule.set_gradient_divide_factor
FSDPModule.set_gradient_divide_factor = sum_gradients


def whole_batch_step(
    trainer: Trainer,
    *,
    input_dict_mbs: list[dict[str, torch.Tensor]],
    label_mbs: list[torch.Tensor],
    global_valid_tokens: torch.Tensor,
) -> torch.Tensor:
    """torchtitan hands microbatches to the schedule, which the torch of today cannot take yet."""
    losses: list[torch.Tensor] = []
    inputs = [torch.cat([part["input"] for part in input_dict_mbs])]
    last = {"target": torch.cat(label_mbs), "losses": losses}
    with trainer.train_context():
        trainer.pp_schedule.step(
            *(inputs if trainer.pp_has_first_stage else []),
            **(last if trainer.pp_has_last_stage else {}),
            loss_kwargs={"global_valid_tokens": global_valid_tokens},
            return_outputs=False,
        )
    return torch.stack(losses).sum() if losses else torch.tensor(-1.0)


def main() -> None:
    schedule, pipeline, sharded, saved = sys.argv[1:]
    config = llama3_debugmodel()
    config.model_spec = model_registry("debugmodel")
    for layer in config.model_spec.model.layers:
        layer.attention.inner_attention = ScaledDotProductAttention.Config()
    config.loss = CrossEntropyLoss.Config(global_vocab_size=decoder_vocab_size(config.model_spec))
    config.dump_folder = tempfile.mkdtemp()
    config.tokenizer, config.dataloader = NoTokenizer.Config(), RandomTokens.Config()
    config.training.steps, config.training.seq_len = STEPS, LENGTH
    config.training.local_batch_size = MICROBATCHES
    config.training.disable_cuda_graphs = True
    config.debug.seed = 0
    config.validator.enable = config.checkpoint.enable = False
    config.activation_checkpoint = None
    config.parallelism = ParallelismConfig(
        pipeline_parallel_degree=int(pipeline),
        pipeline_parallel_schedule=schedule,
        pipeline_parallel_microbatch_size=1,
        data_parallel_shard_degree=int(sharded),
        spmd_backend="partial_dtensor",
    )
    if not takes_microbatches():
        Trainer.pp_forward_backward_step = whole_batch_step
    trainer = config.build()
    trainer.train()
    parameters = [p.detach() for part in trainer.model_parts for p in part.parameters()]
    whole = [getattr(p, "full_tensor", lambda p=p: p)() for p in parameters]
    torch.save(whole, f"{saved}.{torch.distributed.get_rank()}")
    trainer.close()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
