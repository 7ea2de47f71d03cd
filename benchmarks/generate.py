"""Write a large run that no machine has run, from the statistics of a recorded one.

    python -m benchmarks.generate OUT --pipeline 8 --tensor 4 --data 32 --steps 100

A plan (any schedule of torch.distributed.pipelining) is carried out on pipeline × tensor × data
ranks: actions, calls and transfers take as long as in SAMPLE, each drawn anew; a stage takes what
the recorded stage takes that lies as far along. Tensor ranks meet inside actions, stages send and
receive, data ranks reduce gradients at the end of a step. Ranks may be slow for a while, hosts have
clocks that are off and drift, and compare them. `run.json` says `simulated`, and under `config` all
that was put in. For tests of scale only: nothing that was found in such a run is a finding.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks._figures import show
from benchmarks.simulated.clocks import HostClock
from benchmarks.simulated.rows import RankRows
from benchmarks.simulated.statistics import require_collectives, statistics
from benchmarks.simulated.training import Shape, Straggler, Training
from benchmarks.simulated.writing import Hosts, write_run
from dashboard import open_run
from dashboard.analysis.pipeline.plans import SCHEDULES, plan
from tracer.errors import RankscopeError

SAMPLE = Path(__file__).resolve().parents[1] / "sample_traces" / "pp2-tp2-1f1b"
"""Recorded with tensor ranks, so that it tells how long their collectives take."""


def simulated(
    *,
    pipeline: int,
    tensor: int,
    data: int,
    microbatches: int,
    schedule: str = "Schedule1F1B",
    virtual: int = 1,
    sample: Path = SAMPLE,
    stragglers: tuple[Straggler, ...] = (),
    jitter: float = 0.0,
    seed: int = 0,
) -> Training:
    """The training that the options describe.

    Raises:
        UsageError: the schedule cannot have these sizes, or the sample lacks what they need.
    """
    found = statistics(open_run(sample))
    if tensor > 1:
        require_collectives(found, sample.name)
    made = plan(schedule, p=pipeline, m=microbatches, v=virtual)
    return Training(
        shape=Shape(plan=made, t=tensor, d=data),
        found=found,
        stragglers=stragglers,
        jitter=jitter,
        seed=seed,
    )


def slow_ranks(count: int, slow: float, ranks: int, steps: int, seed: int) -> tuple[Straggler, ...]:
    """So many ranks, chosen by chance, that are slow in the middle third of the steps."""
    chosen = np.random.default_rng((seed, 2)).choice(ranks, min(count, ranks), replace=False)
    first, end = steps // 3, steps - steps // 3
    return tuple(
        Straggler(rank=rank, first=first, end=end, slow=slow) for rank in sorted(chosen.tolist())
    )


@click.command(help=__doc__, context_settings={"show_default": True})
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--pipeline", "-p", default=4, type=click.IntRange(1), help="Pipeline ranks.")
@click.option("--tensor", "-t", default=2, type=click.IntRange(1), help="Tensor ranks.")
@click.option("--data", "-d", default=2, type=click.IntRange(1), help="Data ranks.")
@click.option("--steps", default=20, type=click.IntRange(1), help="Training steps.")
@click.option("--microbatches", "-m", default=16, type=click.IntRange(1), help="Per step.")
@click.option("--schedule", default="Schedule1F1B", type=click.Choice(list(SCHEDULES)))
@click.option("--virtual-stages", default=1, type=click.IntRange(1), help="Stages per rank.")
@click.option("--events", type=float, help="As many steps as give about so many events.")
@click.option(
    "--sample",
    default=SAMPLE,
    show_default=SAMPLE.name,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The recorded run that durations are drawn from.",
)
@click.option("--kernels", default=0, type=click.IntRange(0), help="Kernels in each action.")
@click.option("--stragglers", default=1, type=click.IntRange(0), help="Ranks that are slow.")
@click.option("--slow", default=1.5, type=float, help="How many times as long they take.")
@click.option(
    "--straggler",
    "named",
    multiple=True,
    metavar="RANK:FIRST:END:TIMES",
    help="A slow rank, from step FIRST to before END; in place of those chosen by chance.",
)
@click.option("--jitter", default=0.05, type=float, help="Spread beside the recorded one.")
@click.option("--ranks-per-host", default=8, type=click.IntRange(1), help="That share a clock.")
@click.option("--clock-offset", default=4.0, type=float, help="Seconds that a clock may be off.")
@click.option("--drift", default=50.0, type=float, help="Parts per million that it may drift.")
@click.option("--clock-error", default=20.0, type=float, help="Of a comparison, µs at most.")
@click.option("--seed", default=20_261_127, type=int, help="The same run for the same seed.")
def main(out: Path | None, **options: object) -> None:
    """Write the run into OUT, a new directory, or see how long it takes if there is none."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            _generate(out or Path(directory) / "run", **options)  # type: ignore[arg-type]
        except (RankscopeError, FileExistsError) as error:
            raise click.ClickException(
                f"{out}: exists; name a new directory" if isinstance(error, OSError) else str(error)
            ) from error


def _generate(
    out: Path,
    *,
    pipeline: int,
    tensor: int,
    data: int,
    steps: int,
    microbatches: int,
    schedule: str,
    virtual_stages: int,
    events: float | None,
    sample: Path,
    kernels: int,
    stragglers: int,
    slow: float,
    named: tuple[str, ...],
    jitter: float,
    ranks_per_host: int,
    clock_offset: float,
    drift: float,
    clock_error: float,
    seed: int,
) -> None:
    began = time.perf_counter()
    training = simulated(
        pipeline=pipeline,
        tensor=tensor,
        data=data,
        microbatches=microbatches,
        schedule=schedule,
        virtual=virtual_stages,
        sample=sample,
        jitter=jitter,
        seed=seed,
    )
    ranks = training.shape.ranks
    if events is not None:
        steps = max(round(events / events_per_step(training, kernels)), 1)
    training.stragglers = (
        tuple(_straggler(said, ranks) for said in named)
        if named
        else slow_ranks(stragglers, slow, ranks, steps, seed)
    )
    hosts = Hosts(
        ranks_per_host=ranks_per_host,
        offset_s=clock_offset,
        drift_ppm=drift,
        error_us=clock_error,
    )
    with click.progressbar(length=steps, label="Simulating steps", file=sys.stderr) as bar:
        count = write_run(
            out,
            training,
            steps=steps,
            hosts=hosts,
            kernels=kernels,
            sample=sample.name,
            progress=bar.update,
        )
    taken = time.perf_counter() - began
    size = sum(file.stat().st_size for file in out.iterdir())
    show("generate.events", count, "events", 1)
    show("generate.ranks", ranks, "ranks", 1)
    show("generate.steps", steps, "steps", 1)
    show("generate.seconds", taken, "s", 1)
    show("generate.bytes_per_event", size / count, "bytes", count)


def events_per_step(training: Training, kernels: int) -> int:
    """Of all ranks together."""
    still = HostClock(offset_ns=0, drift=0)
    shape = training.shape
    each = [
        RankRows(training, shape.rank(i, 0, 0), kernels=kernels, clock=still).rows_per_step
        for i in range(shape.plan.p)
    ]
    return sum(each) * shape.t * shape.d


def _straggler(said: str, ranks: int) -> Straggler:
    try:
        rank, first, end, slow = said.split(":")
        found = Straggler(rank=int(rank), first=int(first), end=int(end), slow=float(slow))
    except ValueError as error:
        raise click.BadParameter(f"{said!r} is not RANK:FIRST:END:TIMES, as 3:10:20:1.5") from error
    if not 0 <= found.rank < ranks:
        raise click.BadParameter(f"{said!r}: there are ranks 0 to {ranks - 1}")
    return found


if __name__ == "__main__":
    main()
