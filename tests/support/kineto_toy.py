"""Write a trace by hand as Kineto writes one on GPUs: no GPU was there to record it.

After libkineto's output_json.cpp: times in µs since `baseTimeNanoseconds`, kernels with
correlation, stream and external id, NCCL's arguments on `record_param_comms` and on the kernel.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

BASE = 1_790_000_000_000_000_000


class Toy:
    """One rank's file, event by event; times in µs."""

    def __init__(self, rank: int, world_size: int, *, host: str | None = "a") -> None:
        self.rank = rank
        self.events: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {
            "schemaVersion": 1,
            "deviceProperties": [{"id": rank, "name": "NVIDIA H100"}],
            "distributedInfo": {
                "backend": "nccl",
                "rank": rank,
                "world_size": world_size,
                "pg_config": [],
                "nccl_version": "2.27.5",
            },
            "baseTimeNanoseconds": BASE,
        }
        if host is not None:
            self.facts["host_name"] = host
        self._ids = 0

    def host(self, category: str, name: str, ts: float, dur: float, **args: Any) -> None:
        """An event of the main thread."""
        self._span(category, name, ts, dur, pid=100 + self.rank, tid=100 + self.rank, args=args)

    def step(self, number: int, ts: float, dur: float) -> None:
        """A profiler step."""
        self.host("user_annotation", f"ProfilerStep#{number}", ts, dur)

    def kernel(self, name: str, launch: float, ts: float, dur: float, **more: Any) -> None:
        """A launch of 1 µs and the kernel that it leads to."""
        self._ids += 1
        self.host("cuda_runtime", "cudaLaunchKernel", launch, 1, correlation=self._ids)
        args = {"stream": 7, "device": self.rank, "correlation": self._ids} | more
        category = "gpu_memcpy" if name.startswith("Memcpy") else "kernel"
        self._span(category, name, ts, dur, pid=self.rank, tid=args["stream"], args=args)

    def nccl(self, op: str, call: float, ts: float, dur: float, **args: Any) -> None:
        """A call of 2 µs, and its kernel on stream 13."""
        self._ids += 1
        external = 10_000 + self._ids
        facts = {
            "Collective name": op,
            "dtype": "Float",
            "In msg nelems": 1000,
            "Out msg nelems": 1000,
            "Group size": 2,
            "Process Group Name": "1",
            "Process Group Description": "mesh_tp",
            "Process Group Ranks": "[0, 1]",
        } | args
        self.host("cpu_op", "record_param_comms", call, 2, **{"External id": external}, **facts)
        self.kernel(
            f"ncclDevKernel_{op}",
            call + 0.5,
            ts,
            dur,
            stream=13,
            **{"External id": external},
            **facts,
        )

    def write(self, path: Path, *, indent: int | None = 2) -> Path:
        """As a file; compressed if its name says so."""
        text = json.dumps(
            self.facts | {"traceEvents": self.events, "traceName": "x"}, indent=indent
        )
        data = text.encode()
        path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
        return path

    def _span(self, category: str, name: str, ts: float, dur: float, **more: Any) -> None:
        times = {"ts": round(ts, 3), "dur": round(dur, 3)}
        self.events.append({"ph": "X", "cat": category, "name": name} | times | more)


def two_ranks(directory: Path, **how: Any) -> Path:
    """Two ranks of a pipeline stage each and of one tensor-parallel group, two steps of 100 µs;
    rank 1 does all that rank 0 does 1 µs later.

    In each step, µs from its start: kernel `gemm` 10-30 of action F0 and 40-60 of B0, an
    all_reduce of 4,000 bytes 25-45 (rank 1: 26-46), a copy 60-62, `adam` 70-80 in the optimizer.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for rank in (0, 1):
        toy = Toy(rank, 2, **how)
        for number in (4, 5):
            begin = 1000 + 100 * (number - 4)
            at = begin + rank
            toy.step(number, begin, 99)
            toy.host("user_annotation", f"PP:{rank}F0", at + 2, 8)
            toy.host("cpu_op", "aten::mm", at + 3, 4)
            toy.host("cpu_op", "aten::inner", at + 4, 1)
            toy.kernel("void gemm<float>", at + 4, at + 10, 20)
            toy.nccl("allreduce", at + 11, at + 25, 20, Seq=number)
            toy.host("user_annotation", f"PP:{rank}B0", at + 14, 8)
            toy.host("cpu_op", "aten::mm", at + 15, 4)
            toy.kernel("void gemm<float>", at + 16, at + 40, 20)
            toy.kernel("Memcpy DtoH (Device -> Pinned)", at + 24, at + 60, 2)
            toy.host("user_annotation", "Optimizer.step#AdamW.step", at + 26, 10)
            toy.kernel("adam", at + 28, at + 70, 10)
            toy.host("user_annotation", "my span", at + 40, 3)
        toy.write(directory / f"rank{rank}.json")
    return directory
