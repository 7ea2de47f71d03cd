"""Three ranks on gloo of which the middle one leaves out the last all_reduce; each dumps its
flight recorder as torch does, as a pickle and as JSON, into the folder that is named.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C import _distributed_c10d as c10d
from torch.distributed import distributed_c10d


def _wait_until_retired() -> None:
    """Gloo notes the end of an operation a while after those who called it have gone on."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        entries = pickle.loads(c10d._dump_fr_trace(True, False, False))["entries"]
        if all(entry["retired"] or entry["input_sizes"] == [[7]] for entry in entries):
            return
        time.sleep(0.05)


def main(folder: Path) -> None:
    """Train nothing, communicate a little, part, dump."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    ends = dist.new_group([0, 2], group_desc="mesh_tp")
    for _ in range(2):
        dist.all_reduce(torch.ones(1024))
        if rank != 1:
            dist.all_reduce(torch.ones(3, dtype=torch.bfloat16), group=ends)
        gathered = [torch.empty(8) for _ in range(3)]
        dist.all_gather(gathered, torch.ones(8))
        parts = [torch.empty(2) for _ in range(3)] if rank == 0 else None
        dist.gather(torch.ones(2), parts)
        dist.barrier()
    pending = dist.all_reduce(torch.ones(7), async_op=True) if rank != 1 else None
    _wait_until_retired()
    (folder / "pickles" / f"nccl_trace_rank_{rank}").write_bytes(
        c10d._dump_fr_trace(True, True, False)
    )
    (folder / "json" / f"rank-{rank}.json").write_bytes(c10d._dump_fr_trace_json(True, False))
    store = distributed_c10d._get_default_store()
    store.set(f"dumped {rank}", "yes")
    store.wait([f"dumped {other}" for other in range(3)])
    del pending
    os._exit(0)  # the pending all_reduce never ends


main(Path(sys.argv[1]))
