"""Exercises: loops that frameworks drive."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from collectors.live.callbacks import LoopRecording
from tests.reliability.exercise_common import (
    FLUSH_S,
    MICROBATCHES,
    WIDTH,
    Outcome,
    batch,
    bits,
    tracing,
)
from tracer import Kind


def framework(directory: Path | None, scratch: Path) -> Outcome:
    """A loop that a framework drives, and its callback."""
    torch.manual_seed(0)
    model = nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = SimpleNamespace(evaluate=lambda: str(float(model(batch(9)).detach().sum())))
    recording = None
    if directory is not None:
        recording = LoopRecording(directory, {"flush_interval_s": FLUSH_S})
        recording.start(
            lambda patches: patches.replace(
                trainer, "evaluate", recording.wrap(Kind.USER, "validation")
            )
        )
    said = []
    for step in range(3):
        for microbatch in range(2):
            if recording is not None:
                recording.begins(Kind.FORWARD, "training_step")
            loss = model(batch(step + microbatch)).square().mean()
            if recording is not None:
                recording.ends("training_step")
            loss.backward()
            if recording is not None:
                recording.batch_ends(stepped=microbatch == 1)
        optimizer.step()
        said.append(trainer.evaluate())
    if recording is not None:
        recording.stop()
    return bits(model.parameters()), said


def megatron(directory: Path | None, scratch: Path) -> Outcome:
    """Megatron-Core's own schedule, with one chunk per rank."""
    from megatron.core import parallel_state
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from megatron.core.transformer import TransformerConfig

    from examples import train_megatron

    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel(pipeline_model_parallel_size=2)
    config = TransformerConfig(
        num_layers=2,
        hidden_size=train_megatron.WIDTH,
        num_attention_heads=1,
        pipeline_model_parallel_size=2,
        pipeline_dtype=torch.float32,
        use_cpu_initialization=True,
        overlap_p2p_comm=False,
        batch_p2p_comm=True,
    )
    with tracing(directory) as t, train_megatron.on_cpu():
        model = train_megatron.Chunk(config, dist.get_rank())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            get_forward_backward_func()(
                forward_step_func=train_megatron.forward,
                data_iterator=[train_megatron.data()],
                model=[model],
                num_microbatches=MICROBATCHES,
                seq_length=train_megatron.LENGTH,
                micro_batch_size=train_megatron.ROWS,
            )
            optimizer.step()
            t.step()
    return bits(model.parameters()), []


def deepspeed(directory: Path | None, scratch: Path) -> Outcome:
    """DeepSpeed's own loop over the instructions of a schedule, of one stage that trains."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.pipe.engine import PipelineEngine
    from deepspeed.runtime.pipe.schedule import TrainSchedule

    torch.manual_seed(0)
    model = nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    said: list[str] = []

    def forward(engine: Any, buffer_id: int) -> None:
        engine.loss = model(batch(buffer_id)).square().mean()
        said.append(str(float(engine.loss.detach())))

    does = {
        "ForwardPass": forward,
        "BackwardPass": lambda engine, buffer_id: engine.loss.backward(),
        "OptimizerStep": lambda engine: optimizer.step(),
    }
    own = PipelineEngine._INSTRUCTION_MAP
    PipelineEngine._INSTRUCTION_MAP = {
        cls: does.get(cls.__name__, lambda *unused, **also: None) for cls in own
    }
    try:
        with tracing(directory) as t:
            engine = object.__new__(PipelineEngine)  # the whole of it needs a cluster
            nn.Module.__init__(engine)
            engine.stage_id = 0
            engine._reserve_pipe_buffers = lambda buffers: None
            engine.grid = SimpleNamespace(
                pp_group=(0,), _topo=SimpleNamespace(get_axis_comm_lists=lambda axis: [[0]])
            )
            for _ in range(2):
                engine._exec_schedule(TrainSchedule(MICROBATCHES, 1, 0))
                t.step()
    finally:
        PipelineEngine._INSTRUCTION_MAP = own
    return bits(model.parameters()), said
