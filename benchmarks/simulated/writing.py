"""Write a simulated training as a run directory, marked simulated."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.simulated.clocks import HostClock, host_clocks, write_comparisons
from benchmarks.simulated.rows import RankRows
from benchmarks.simulated.training import Shape, Training
from tracer.errors import UsageError
from tracer.run_files import (
    Mesh,
    RankFacts,
    RunMeta,
    SchedulePlan,
    write_rank_facts,
    write_run_meta,
)
from tracer.schema import EVENT_SCHEMA, events_file
from tracer.streams import StreamWriter

_ROWS_AT_ONCE: Final = 1 << 14
"""Rows per record batch, as large as the recorder's usual ones."""
_NUMBERS_AT_ONCE: Final = 4_000_000
"""In one array of the simulation: 32 MB."""
_OTHER_FILES: Final = 64
_LETTER: Final = {
    "forward": "F", "backward": "B", "backward_input": "I", "backward_weight": "W",
}  # fmt: skip


@dataclass(kw_only=True, slots=True, frozen=True)
class Hosts:
    """Machines of so many ranks, whose clocks are off, drift, and are compared to `error_us`."""

    ranks_per_host: int
    offset_s: float = 4.0
    drift_ppm: float = 50.0
    error_us: float = 20.0


def write_run(
    path: Path,
    training: Training,
    *,
    steps: int,
    hosts: Hosts,
    kernels: int = 0,
    sample: str = "",
    progress: Callable[[int], object] = lambda steps: None,
) -> int:
    """Write the run into a new directory; `progress` is told how many more steps are done.

    Returns how many events it has.

    Raises:
        FileExistsError: `path` exists.
        UsageError: more files than this process may open.
    """
    shape = training.shape
    _allow_files(shape.ranks + _OTHER_FILES)
    path.mkdir(parents=True)
    run_id = f"simulated-{training.seed}"
    random = np.random.default_rng((training.seed, 1))
    count = -(-shape.ranks // hosts.ranks_per_host)
    clocks = host_clocks(count, offset_s=hosts.offset_s, drift_ppm=hosts.drift_ppm, random=random)
    ranks = [
        RankRows(training, rank, kernels=kernels, clock=clocks[rank // hosts.ranks_per_host])
        for rank in range(shape.ranks)
    ]
    config = _said(training, steps, hosts, sample, clocks)
    write_run_meta(path, _meta(training, run_id, config))
    events, end = 0, 0.0
    with ExitStack() as stack:
        writers = []
        for rank in range(shape.ranks):
            place = path / events_file(rank)
            writer = StreamWriter(place, EVENT_SCHEMA, "events", run_id=run_id, rank=rank)
            stack.callback(writer.close)
            writers.append(writer)
        for block in training.blocks(steps, _steps_at_once(training, ranks[0])):
            for rows, writer in zip(ranks, writers, strict=True):
                batch = rows.batch(block)
                writer.write(batch)
                events += batch.num_rows
            end = float(block.after.max())
            progress(len(block.begin))
    speakers = [host * hosts.ranks_per_host for host in range(count)]
    write_comparisons(
        path,
        clocks,
        speakers,
        end_ns=end,
        error_ns=hosts.error_us * 1e3,
        run_id=run_id,
        random=random,
    )
    for rows in ranks:
        write_rank_facts(path, _facts(shape, rows, run_id, hosts))
    return events


def _steps_at_once(training: Training, rows: RankRows) -> int:
    shape = training.shape
    width = max(1, *(task.collectives for task in training.tasks))
    numbers = len(training.tasks) * shape.t * shape.d * width
    return max(min(_NUMBERS_AT_ONCE // numbers, _ROWS_AT_ONCE // rows.rows_per_step), 1)


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise UsageError(
            f"{wanted:,} files at once are more than this machine allows a process ({hard:,}); "
            "raise it with `ulimit -n`, or simulate fewer ranks"
        )
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _said(
    training: Training, steps: int, hosts: Hosts, sample: str, clocks: tuple[HostClock, ...]
) -> dict[str, Any]:
    """What was put in, so that an analysis can be checked against it."""
    return {
        "simulated_from": sample,
        "steps": steps,
        "seed": training.seed,
        "jitter": training.jitter,
        "stragglers": [asdict(one) for one in training.stragglers],
        "hosts": asdict(hosts),
        "clocks": [asdict(clock) for clock in clocks],
        "reduction_of_gradients": "assumed" if training.found.is_reduction_assumed else "recorded",
    }


def _meta(training: Training, run_id: str, config: dict[str, Any]) -> RunMeta:
    shape, plan = training.shape, training.shape.plan
    places = {rank: shape.place(rank) for rank in range(shape.ranks)}
    return RunMeta(
        run_id=run_id,
        world_size=shape.ranks,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        mesh=Mesh(
            names=("pp", "dp", "tp"),
            shape=(plan.p, shape.d, shape.t),
            coordinates={rank: (i, k, j) for rank, (i, j, k) in places.items()},
        ),
        schedule=SchedulePlan(
            name=plan.schedule,
            stages=plan.p * plan.v,
            microbatches=plan.m,
            virtual_stages=plan.v,
            pipeline_size=plan.p,
            plan={
                rank: tuple(f"{a.stage}{_LETTER[a.kind]}{a.microbatch}" for a in actions)
                for rank, actions in enumerate(plan.actions)
            },
        ),
        config={"simulation": config},
        simulated=True,
    )


def _facts(shape: Shape, rows: RankRows, run_id: str, hosts: Hosts) -> RankFacts:
    i, j, k = shape.place(rows.rank)
    host = rows.rank // hosts.ranks_per_host
    return RankFacts(
        rank=rows.rank,
        run_id=run_id,
        host=f"simulated-{host:04d}",
        boot_id=f"simulated-{host:04d}",
        device="simulated",
        coordinates={"pp": i, "dp": k, "tp": j},
        stages=rows.stages,
        groups=rows.groups,
        ended="closed",
        world_size=shape.ranks,
    )
