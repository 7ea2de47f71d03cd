"""`torchrun … -m collectors.calibrate RUN`: measure the links of a run and write calibration.json.

`rankscope calibrate RUN` starts this on one host. On several hosts, start it as the training was.
"""

from __future__ import annotations

import argparse
import datetime
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from collectors.calibrate.plan import Round, groups_of, rounds, sizes
from collectors.calibrate.sweep import Sweep, Timing, slowest_members
from tracer.calibration_file import (
    CALIBRATION_FILE,
    Calibration,
    CalibrationPoint,
    write_calibration,
)
from tracer.environment import versions
from tracer.errors import RankscopeError, UsageError
from tracer.run_files import RunMeta

_DESCRIPTION = """\
Measure how long all_reduce, all_gather, reduce_scatter, all_to_all and messages take over the
groups of RUN, by size, and write RUN/calibration.json. Start it with as many processes as the run
had, placed in the same way:

  torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:PORT -m collectors.calibrate runs/a

On one host, `rankscope calibrate runs/a` does the same.
"""
_TIMEOUT = datetime.timedelta(minutes=5)
"""For one operation: 64 MB over a link of 1 MB/s take one."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on every rank; rank 0 gathers and writes. Exits with 2 on bad usage or input."""
    options = _parser().parse_args(arguments)
    try:
        _calibrate(options)
    except RankscopeError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        sys.exit(2)


def _calibrate(options: argparse.Namespace) -> None:
    meta, groups = groups_of(options.run, options.group)
    wanted = sizes(options.low, options.high)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes != meta.world_size:
        raise UsageError(
            f"{processes} processes, but {options.run} was recorded with {meta.world_size}; "
            f"start {meta.world_size} of them, with torchrun"
        )
    backend, device = _place(options.backend)
    dist.init_process_group(backend, timeout=_TIMEOUT)
    try:
        planned = list(rounds(groups))
        sweep = Sweep(planned, device=device)
        timings = _timings(sweep, planned, wanted, options.seconds)
        gathered = sweep.gather((socket.gethostname(), timings))
        if dist.get_rank() == 0:
            found = _calibration(meta, gathered, device, backend)
            write_calibration(options.out or options.run / CALIBRATION_FILE, found)
    finally:
        dist.destroy_process_group()


def _place(backend: str | None) -> tuple[str, torch.device]:
    """NCCL where this host has a GPU for each of its processes, else gloo on the processors."""
    here, mine = (int(os.environ.get(name, "0")) for name in ("LOCAL_WORLD_SIZE", "LOCAL_RANK"))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    backend = backend or ("nccl" if gpus >= here > 0 else "gloo")
    if backend != "nccl":
        return backend, torch.device("cpu")
    if gpus < here:
        raise UsageError(f"nccl needs a GPU per process: {gpus} GPUs for {here} processes here")
    torch.cuda.set_device(mine)
    return backend, torch.device("cuda", mine)


def _timings(
    sweep: Sweep, planned: Sequence[Round], wanted: Sequence[int], seconds: float
) -> list[Timing]:
    """What this rank measured; rank 0 says how far it is, a line per round and size."""
    timings, done, total = [], 0, len(planned) * len(wanted)
    for round_ in planned:
        for size in wanted:
            timing, why = sweep.measure(round_, size, seconds)
            done += 1
            if dist.get_rank() == 0:
                said = f" left out: {why}" if why else ""
                print(f"{done}/{total} {round_.dim} {round_.op} {size:,} B{said}", flush=True)
            if timing is not None:
                timings.append(timing)
    return timings


def _calibration(
    meta: RunMeta, gathered: Sequence[tuple[str, list[Timing]]], device: torch.device, backend: str
) -> Calibration:
    timings = [timing for _, found in gathered for timing in found]
    points = [_point(timing, ns) for timing, ns in slowest_members(timings)]
    return Calibration(
        run_id=meta.run_id,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        world_size=meta.world_size,
        hosts=tuple(sorted({host for host, _ in gathered})),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        backend=backend,
        versions=versions(),
        points=tuple(points),
    )


def _point(timing: Timing, ns: float) -> CalibrationPoint:
    ranks = timing.group.ranks
    ends = {"src": ranks[0], "dst": ranks[1]} if timing.op == "p2p" else {}
    return CalibrationPoint(
        group=timing.group.name,
        dim=timing.group.dim,
        op=timing.op,
        n=len(ranks),
        bytes=timing.bytes,
        ns=ns,
        iterations=timing.iterations,
        **ends,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m collectors.calibrate",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run directory")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: RUN/calibration.json")
    parser.add_argument("--low", type=int, default=4096, metavar="BYTES", help="smallest size")
    parser.add_argument("--high", type=int, default=64 << 20, metavar="BYTES", help="largest size")
    parser.add_argument(
        "--seconds", type=float, default=0.2, metavar="S", help="per operation and size"
    )
    parser.add_argument(
        "--group", action="append", default=[], metavar="NAME", help="only this one: tp:0-1"
    )
    parser.add_argument("--backend", choices=("nccl", "gloo"), help="default: nccl where it can")
    return parser


if __name__ == "__main__":
    main()
