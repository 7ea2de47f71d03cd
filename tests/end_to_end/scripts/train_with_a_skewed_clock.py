"""Train for some seconds on a clock that is wrong by a known offset and drift.

`SKEW_BASE`: the true time from which the drifts count. `STALL=1`: rank 0 never answers.
"""

from __future__ import annotations

import os
import sys
import time

from tests.support import skewed

RANK = int(os.environ["RANK"])
skewed.install(RANK, skewed.base_of_environment())

import torch  # noqa: E402 - the clock comes first
import torch.distributed as dist  # noqa: E402

from tracer import Tracer  # noqa: E402
from tracer.clocks.exchange import ClockExchange  # noqa: E402


def main(run: str, seconds: float) -> None:
    """Steps of some milliseconds of work and an all_reduce, until rank 0 says enough."""
    if os.environ.get("STALL") == "1" and RANK == 0:
        ClockExchange._answer = lambda *arguments: time.sleep(3600)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    weights = torch.randn(150, 150)
    enough = torch.zeros(1)
    with Tracer(run) as tracer:
        end = time.perf_counter() + seconds
        while enough.item() == 0:
            for _ in range(10):
                weights = torch.tanh(weights @ weights)
            enough.fill_(float(RANK == 0 and time.perf_counter() > end))
            dist.all_reduce(enough)
            tracer.step()
    dist.destroy_process_group()


main(sys.argv[1], float(sys.argv[2]))
