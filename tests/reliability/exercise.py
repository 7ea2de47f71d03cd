"""Small trainings of two ranks that reach everything of the tracer that a CPU can reach.

Each exercise is a function that trains with a tracer or with none, and returns what the user has
of it: the bits of the parameters, and every value and exception that came back from a call. Both
must be the same whatever happens inside the tracer.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from tests.reliability.exercise_common import FLUSH_S, WIDTH, Outcome, batch, bits, tracing
from tests.reliability.exercise_frameworks import deepspeed, framework, megatron
from tests.reliability.exercise_parallel import parallel


def automatic(directory: Path | None, scratch: Path) -> Outcome:
    """Two hosts; steps that end by themselves, of which one out of two is recorded."""
    said: list[str] = []
    torch.manual_seed(0)
    with tracing(directory, hosts=2, automatic_steps=True, every=2) as t:
        model = nn.Linear(WIDTH, WIDTH)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(4):
            model(batch(step)).square().mean().backward()
            dist.all_reduce(model.weight.grad)
            optimizer.step()
        t.step()
        time.sleep(2 * FLUSH_S)
    return bits(model.parameters()), said


def black_box(directory: Path | None, scratch: Path) -> Outcome:
    """A black box that slow steps, a call, a signal and a pause without progress make write."""
    torch.manual_seed(0)
    model = nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with tracing(directory, keep_last=2, slow_step_s=1e-6, hang_s=0.1) as t:
        for step in range(4):
            model(batch(step)).square().mean().backward()
            dist.all_reduce(model.weight.grad)
            optimizer.step()
            t.step()
        t.dump("a call")
        if signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGUSR1)
        child = os.fork()
        if child == 0:
            os._exit(0)
        said = str(os.waitpid(child, 0)[1])
        dist.all_reduce(model.weight.grad)
        time.sleep(0.1 + 4 * FLUSH_S)
    return bits(model.parameters()), [said]


EXERCISES: dict[str, Callable[[Path | None, Path], Outcome]] = {
    "parallel": parallel,
    "automatic": automatic,
    "framework": framework,
    "megatron": megatron,
    "deepspeed": deepspeed,
    "black_box": black_box,
}
