"""Kineto files of a GPU training, made up: no GPU was there to record one of that size.

Each kernel has its operator, its launch and itself, as torch.profiler writes them; every twentieth
is one of NCCL with its arguments, on a stream of its own. How long kernels take is lognormal;
the ranks are alike, since HTA cuts all of them at one time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

_STEPS: Final = 5
_PER_NCCL: Final = 20
_EVENTS_PER_KERNEL: Final = 3
_KERNELS: Final = (
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute",
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)",
    "void flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false>>(Flash_fwd_params)",
    "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>(int)",
)
_OPERATORS: Final = ("aten::mm", "aten::add_", "aten::_flash_attention_forward", "aten::layer_norm")


def write_kineto_files(directory: Path, *, ranks: int, events: int, seed: int = 0) -> int:
    """So many events in all, one file per rank; returns how many bytes that are."""
    directory.mkdir(parents=True)
    for rank in range(ranks):
        random = np.random.default_rng(seed)
        kernels = max(events // ranks // _EVENTS_PER_KERNEL, _STEPS * _PER_NCCL)
        head = {
            "schemaVersion": 1,
            "deviceProperties": [{"id": rank, "name": "made up"}],
            "distributedInfo": {
                "backend": "nccl",
                "rank": rank,
                "world_size": ranks,
                "pg_config": [],
            },
            "baseTimeNanoseconds": 1_790_000_000_000_000_000,
            "traceName": "made up",
        }
        text = json.dumps(head)[:-1] + ', "traceEvents": [\n'
        with (directory / f"rank{rank}.json").open("w") as file:
            file.write(text)
            file.write(",\n".join(map(json.dumps, _events(rank, ranks, kernels, random))))
            file.write("\n]}\n")
    return sum(file.stat().st_size for file in directory.iterdir())


def _events(
    rank: int, ranks: int, kernels: int, random: np.random.Generator
) -> Iterator[dict[str, Any]]:
    durations = np.round(random.lognormal(2.5, 0.8, kernels).clip(1, 500), 3).tolist()
    gaps = np.round(random.exponential(1.5, kernels), 3).tolist()
    per_step = -(-kernels // _STEPS)
    now, host, members = 1_000.0, 900.0, str(list(range(ranks)))
    process = {"pid": 100 + rank, "tid": 100 + rank}
    step_began = host
    for number, (duration, gap) in enumerate(zip(durations, gaps, strict=True)):
        host = max(host + 4, now - 300)
        is_nccl = number % _PER_NCCL == _PER_NCCL - 1
        ids = {"External id": number + 1}
        stream = 13 if is_nccl else 7
        begin = round(max(now, host + 5), 3)
        facts: dict[str, Any] = {}
        name, operator = _KERNELS[number % 4], _OPERATORS[number % 4]
        if is_nccl:
            name, operator = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL", "record_param_comms"
            facts = {
                "Collective name": "allreduce",
                "dtype": "BFloat16",
                "In msg nelems": 1 << 20,
                "Out msg nelems": 1 << 20,
                "Group size": ranks,
                "Process Group Name": "1",
                "Process Group Description": "mesh_tp",
                "Process Group Ranks": members,
                "Seq": number // _PER_NCCL,
            }
        yield _span("cpu_op", operator, host, 3, process | {"args": ids | facts})
        launch = {"cbid": 211, "correlation": number + 1} | ids
        yield _span("cuda_runtime", "cudaLaunchKernel", host + 1, 1.5, process | {"args": launch})
        args = {
            "device": rank,
            "context": 1,
            "stream": stream,
            "correlation": number + 1,
            "grid": [128, 1, 1],
            "block": [256, 1, 1],
            "registers per thread": 64,
            "shared memory": 16384,
            "est. achieved occupancy %": 50,
        }
        where = {"pid": rank, "tid": stream, "args": args | ids | facts}
        yield _span("kernel", name, begin, duration, where)
        # Half of a collective's time is hidden behind the kernels that come next.
        now = begin + (duration / 2 if is_nccl else duration) + gap
        if (number + 1) % per_step == 0 or number + 1 == kernels:
            label = f"ProfilerStep#{number // per_step}"
            length = host + 5 - step_began
            yield _span("user_annotation", label, step_began, length, process | {"args": {}})
            host = step_began = host + 5


def _span(category: str, name: str, ts: float, dur: float, more: dict[str, Any]) -> dict[str, Any]:
    times = {"ts": round(ts, 3), "dur": round(dur, 3)}
    return {"ph": "X", "cat": category, "name": name} | times | more
