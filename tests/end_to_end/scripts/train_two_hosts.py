"""Some hundred steps of an all_reduce, for ranks that a test starts one by one."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist

from tracer import Tracer

dist.init_process_group("gloo")
weights = torch.ones(1000)
with Tracer(sys.argv[1]) as tracer:
    for _ in range(int(sys.argv[2])):
        for _ in range(20):
            weights = torch.sin(weights)
        dist.all_reduce(weights)
        tracer.step()
dist.destroy_process_group()
