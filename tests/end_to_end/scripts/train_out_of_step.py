"""Rank 1 leaves out one all_reduce of step 3: the job hangs at its end, and times out."""

from __future__ import annotations

import datetime
import sys

import torch
import torch.distributed as dist

from tracer import Tracer

dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=6))
rank = dist.get_rank()
tensor = torch.zeros(16)
with Tracer(sys.argv[1], flush_interval_s=0.2) as tracer:
    for step in range(6):
        for call in range(3):
            if (rank, step, call) != (1, 3, 1):
                dist.all_reduce(tensor)
        tracer.step()
