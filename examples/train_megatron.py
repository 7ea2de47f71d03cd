"""Train a small stack of linear layers through Megatron-Core's pipeline schedules, with gloo.

Megatron-Core asks for a GPU in a few places of its schedules. Without one, `on_cpu` answers these
with the CPU, so that the same schedules run here. It knows nothing of Rankscope. To record it, put
`-m tracer --out RUN` before it:

  torchrun --nproc-per-node 2 -m tracer --out runs/megatron examples/train_megatron.py
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.enums import ModelType
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.transformer import TransformerConfig
from torch import nn
from torch.overrides import TorchFunctionMode

WIDTH, ROWS, LENGTH = 16, 2, 4


class Chunk(nn.Module):
    """One stage: two linear layers, in the form in which Megatron drives a model."""

    def __init__(self, config: TransformerConfig, stage: int) -> None:
        super().__init__()
        torch.manual_seed(stage)
        self.layers = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.config = config
        self.model_type = ModelType.encoder_or_decoder
        self.received: torch.Tensor | None = None

    def set_input_tensor(self, tensors: list[torch.Tensor | None]) -> None:
        """Megatron hands over what the stage before sent."""
        self.received = tensors[0]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The first stage takes the data, the others what they received."""
        return self.layers(inputs if self.received is None else self.received)


def main() -> None:
    """Train, and say the loss."""
    options = parse()
    dist.init_process_group("gloo")
    size = dist.get_world_size() // options.data_parallel
    virtual = options.virtual_stages if options.virtual_stages > 1 else None
    parallel_state.initialize_model_parallel(
        pipeline_model_parallel_size=size, virtual_pipeline_model_parallel_size=virtual
    )
    config = TransformerConfig(
        num_layers=size * options.virtual_stages,
        hidden_size=WIDTH,
        num_attention_heads=1,
        pipeline_model_parallel_size=size,
        virtual_pipeline_model_parallel_size=virtual,
        pipeline_dtype=torch.float32,
        use_cpu_initialization=True,
        # Between two ranks the interleaved schedule needs its messages one by one.
        overlap_p2p_comm=virtual is not None,
        batch_p2p_comm=virtual is None,
    )
    rank = parallel_state.get_pipeline_model_parallel_rank()
    model = nn.ModuleList(
        Chunk(config, rank + chunk * size) for chunk in range(options.virtual_stages)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches: Any = [data() for _ in model]
    losses: list[dict[str, torch.Tensor]] = []
    with contextlib.nullcontext() if torch.cuda.is_available() else on_cpu():
        for _ in range(options.steps):
            optimizer.zero_grad()
            losses = get_forward_backward_func()(
                forward_step_func=forward,
                data_iterator=batches,
                model=list(model),
                num_microbatches=options.microbatches,
                seq_length=LENGTH,
                micro_batch_size=ROWS,
            )
            average_gradients(model)
            optimizer.step()
    if losses and parallel_state.get_data_parallel_rank() == 0:
        print(f"last loss {sum(float(part['loss']) for part in losses) / len(losses):.4f}")
    if options.save:
        torch.save([p.detach() for p in model.parameters()], f"{options.save}.{dist.get_rank()}")
    dist.destroy_process_group()


def forward(batches: Iterator[torch.Tensor], chunk: Chunk) -> tuple[torch.Tensor, Any]:
    """What Megatron calls per microbatch: the output, and how to get the loss from it."""
    inputs = next(batches)

    def loss_of(output: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = nn.functional.mse_loss(output, inputs.flip(-1))
        return loss, {"loss": loss.detach()}

    return chunk(inputs), loss_of


def average_gradients(model: nn.Module) -> None:
    """Data parallelism in its simplest form."""
    if parallel_state.get_data_parallel_world_size() > 1:
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad, group=parallel_state.get_data_parallel_group())
            parameter.grad /= parallel_state.get_data_parallel_world_size()


def data() -> Iterator[torch.Tensor]:
    """Endless microbatches, the same ones in every run."""
    generator = torch.Generator().manual_seed(1)
    while True:
        yield torch.rand(LENGTH, ROWS, WIDTH, generator=generator)


class _CpuForCuda(TorchFunctionMode):
    """`device="cuda"` means the CPU."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("device") == "cuda":
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Let what Megatron asks of a GPU be answered by the CPU."""
    torch.cuda.current_device = lambda: torch.device("cpu")
    torch.cuda.synchronize = lambda device=None: None
    with _CpuForCuda():
        yield


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--microbatches", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--virtual-stages", type=int, default=1, metavar="V")
    parser.add_argument("--data-parallel", type=int, default=1, metavar="D")
    parser.add_argument("--save", metavar="FILE", help="write the parameters to FILE.<rank>")
    return parser.parse_args()


if __name__ == "__main__":
    main()
