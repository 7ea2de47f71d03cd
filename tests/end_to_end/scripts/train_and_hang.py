"""Rank 2 is held up in step 6, before an all_reduce: the others hang in it, and are killed."""

from __future__ import annotations

import sys
import threading

import torch
import torch.distributed as dist

from tracer import Tracer

dist.init_process_group("gloo")
tensor = torch.zeros(1024)
with Tracer(sys.argv[1], keep_last=4, hang_s=2, flush_interval_s=0.2) as tracer:
    for step in range(100):
        dist.all_reduce(tensor)
        with tracer.span("load"):
            if (dist.get_rank(), step) == (2, 6):
                threading.Event().wait()
        dist.all_reduce(tensor)
        tracer.step()
