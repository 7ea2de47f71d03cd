"""What comparing clocks costs and finds: 2 to 32 processes, each with a wrong clock of its own.

    python -m benchmarks.clock --ranks 2,4,8,16,32 --seconds 10

Every process trains (matrix products and an all_reduce) as if on a host of its own: its clock is
off by up to ± 4 s and drifts by up to ± 50 ppm, so the truth is known. Prints per number of
processes the error (median, worst) and the published bound of all events, the Store messages and
the processor time of the exchange per rank, and the time from the start to the first comparison.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks._figures import show
from dashboard import open_run
from tests.support.skewed import clock_of
from tracer.schema import clock_file, events_file
from tracer.streams import read_stream

ROOT = Path(__file__).resolve().parents[1]

_TRAIN = """
import json, os, sys, threading, time
from tests.support import skewed
rank = int(os.environ["RANK"])
true = time.monotonic_ns
skewed.install(rank, skewed.base_of_environment())
import torch, torch.distributed as dist
from tracer import Tracer
from tracer.clocks import exchange, rendezvous
out, seconds = sys.argv[1], float(sys.argv[2])
asked, cpu = [0], [0]

class Counting:
    def __init__(self, store): self.store = store
    def __getattr__(self, name):
        asked[0] += 1
        return getattr(self.store, name)

shared, run = exchange.shared_store, exchange.ClockExchange._run
exchange.shared_store = lambda *arguments: Counting(shared(*arguments))
def timed(self):
    run(self)
    cpu[0] = time.thread_time_ns()
exchange.ClockExchange._run = timed
torch.set_num_threads(1)
dist.init_process_group("gloo")
a, enough = torch.randn(150, 150), torch.zeros(1)
began = true()
with Tracer(out) as tracer:
    end = time.perf_counter() + seconds
    while enough.item() == 0:
        a = torch.tanh(a @ a)
        enough.fill_(float(rank == 0 and time.perf_counter() > end))
        dist.all_reduce(enough)
        tracer.step()
lasted = true() - began
with open(os.path.join(out, f"cost-{rank}.json"), "w") as file:
    json.dump({"asked": asked[0], "cpu_ns": cpu[0], "began": began, "lasted": lasted}, file)
dist.destroy_process_group()
"""


def measure(ranks: int, seconds: float) -> dict[tuple[str, str], float]:
    """Record one run and compare what it says of its clocks with the truth."""
    with tempfile.TemporaryDirectory() as place:
        path, base = Path(place) / "run", time.monotonic_ns()
        script = Path(place) / "train.py"
        script.write_text(_TRAIN)
        launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        subprocess.run(
            [sys.executable, "-m", *launch, str(script), str(path), str(seconds)],
            env=os.environ
            | {"SKEW_BASE": str(base), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            check=True,
            stderr=subprocess.DEVNULL,
        )
        return _compared(path, base, ranks)


def _compared(path: Path, base: int, ranks: int) -> dict[tuple[str, str], float]:
    run = open_run(path)
    errors, outside, first = [], 0, []
    costs = [json.loads((path / f"cost-{rank}.json").read_text()) for rank in range(ranks)]
    common = clock_of(0, base)
    for rank in range(1, ranks):
        own, found = clock_of(rank, base), run.clock.maps[rank]
        raw = read_stream(path / events_file(rank), "events").table["start"].to_numpy()
        truth = np.array([common.read(round(own.true(int(shown)))) for shown in raw])
        off = np.abs(found.to_common(raw) - truth)
        errors.append(off)
        outside += int((off > found.bound_at(raw) + 2).sum())
        compared = read_stream(path / clock_file(rank), "clock").table["ts"][0].as_py()
        first.append(own.true(compared) - costs[rank]["began"])
    every = np.concatenate(errors)
    busy = [cost["cpu_ns"] / cost["lasted"] for cost in costs]
    return {
        ("error_median", "us"): float(np.median(every)) / 1e3,
        ("error_worst", "us"): float(every.max()) / 1e3,
        ("bound", "us"): (run.clock.bound_ns or 0) / 1e3,
        ("times_outside_bound", "times"): outside,
        ("violations", "operations"): run.clock.violations,
        ("store_messages_per_rank", "messages"): statistics.mean(cost["asked"] for cost in costs),
        ("first_comparison", "s"): max(first) / 1e9,
        ("cpu_share_worst", "share"): max(busy),
    }


@click.command(help=__doc__)
@click.option("--ranks", default="2,4", show_default=True, help="Numbers of processes.")
@click.option("--seconds", default=3.0, show_default=True, help="Length of each training.")
def main(ranks: str, seconds: float) -> None:
    """Print one figure per line, as every benchmark does."""
    for number in map(int, ranks.split(",")):
        for (name, unit), value in measure(number, seconds).items():
            show(f"clock.{name}_{number}_ranks", value, unit, 1)


if __name__ == "__main__":
    main()
