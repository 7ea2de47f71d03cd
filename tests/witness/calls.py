"""Every way to communicate once, on two ranks, recorded and watched by the witness at once.

torchrun --nproc-per-node 2 calls.py DIRECTORY

Writes rank-N.witness.json; the trace goes to DIRECTORY/run. Calls of objects come last and are
not watched: they are one event each, made of several operators.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch import Tensor
from torch.distributed import all_reduce as imported_before
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import _coalescing_manager
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from tests.witness.dispatch_witness import Witness
from tracer import Tracer


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(*shape, dtype=dtype)


def calls(rank: int, pair: dist.ProcessGroup) -> list[Callable[[], object]]:
    """Each with a size of its own, so that none can stand in for another."""
    other = 1 - rank

    def both(tensor: Tensor) -> list[Tensor]:
        return [tensor.clone(), tensor.clone()]

    def used(tensors: list[Tensor]) -> None:
        for tensor in tensors:
            tensor.sum()

    def batch() -> None:
        operations = [
            dist.P2POp(dist.isend, ones(31), other),
            dist.P2POp(dist.irecv, ones(31), other),
        ]
        for work in dist.batch_isend_irecv(operations):
            work.wait()

    def blocking() -> None:
        (dist.send if rank == 0 else dist.recv)(ones(32), other)

    def not_blocking() -> None:
        (dist.isend if rank == 0 else dist.irecv)(ones(33), other).wait()

    def coalesced() -> None:
        with _coalescing_manager():
            dist.all_reduce(ones(34))
            dist.all_reduce(ones(35))

    def redistributed() -> None:
        mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tp",))
        sharded = distribute_tensor(ones(36, 2), mesh, [Shard(0)])
        sharded.redistribute(mesh, [Replicate()]).to_local()
        sharded.redistribute(mesh, [Shard(1)]).to_local()
        for placement in (Shard(0), Replicate()):
            partial = DTensor.from_local(ones(38, 2), mesh, [Partial()])
            partial.redistribute(mesh, [placement]).to_local()

    return [
        lambda: dist.all_reduce(ones(3)),
        lambda: imported_before(ones(4)),
        lambda: dist.all_reduce(ones(5, dtype=torch.bfloat16), group=pair),
        lambda: dist.all_reduce(ones(6), async_op=True).wait(),
        lambda: dist.all_reduce_coalesced([ones(7), ones(8)]),
        lambda: dist.broadcast(ones(9), 0),
        lambda: dist.reduce(ones(10), 1),
        lambda: dist.all_gather(both(ones(11)), ones(11)),
        lambda: dist.all_gather_into_tensor(ones(24), ones(12)),
        lambda: dist.all_gather_coalesced([[ones(13)], [ones(13)]], [ones(13)]),
        lambda: dist.reduce_scatter(ones(14), both(ones(14))),
        lambda: dist.reduce_scatter_tensor(ones(15), ones(30)),
        lambda: dist.all_to_all_single(ones(16), ones(16)),
        lambda: dist.gather(ones(17), both(ones(17)) if rank == 0 else None),
        lambda: dist.scatter(ones(18), both(ones(18)) if rank == 0 else None),
        dist.barrier,
        lambda: dist.barrier(group=pair),
        lambda: functional.all_reduce(ones(19), "sum", pair).sum(),
        lambda: used(functional.all_reduce_coalesced([ones(20), ones(21)], "sum", pair)),
        lambda: functional.all_gather_tensor(ones(22), 0, pair).sum(),
        lambda: used(functional.all_gather_into_tensor_coalesced([ones(23), ones(24)], pair)),
        lambda: functional.reduce_scatter_tensor(ones(26), "sum", 0, pair).sum(),
        lambda: functional.all_to_all_single(ones(28), [14, 14], [14, 14], pair).sum(),
        lambda: functional.broadcast(ones(29), 0, pair).sum(),
        batch,
        blocking,
        not_blocking,
        coalesced,
        redistributed,
    ]


def objects(rank: int) -> None:
    """One call of each; the last two are a message from rank 0 to rank 1."""
    dist.all_gather_object([None, None], {"rank": rank})
    dist.broadcast_object_list([{"a": 1}], 0)
    dist.gather_object({"a": 1}, [None, None] if rank == 0 else None)
    dist.scatter_object_list([None], [1, 2] if rank == 0 else None)
    if rank == 0:
        dist.send_object_list([{"a": 1}], 1)
    else:
        dist.recv_object_list([None], 0)


def main(directory: Path) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    pair = dist.new_group([0, 1], group_desc="pair")
    with Tracer(directory / "run") as t:
        with Witness() as witness:
            for call in calls(rank, pair):
                call()
        t.step()
        objects(rank)
        t.step()
    seen = [[*operation, count] for operation, count in witness.seen.items()]
    (directory / f"rank-{rank}.witness.json").write_text(json.dumps(seen))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
