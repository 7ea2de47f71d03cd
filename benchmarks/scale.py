"""How time and memory of the analyses grow with the events of a run and with its ranks.

    python -m benchmarks.scale --events 1e5,1e6,1e7 --ranks 8,64,1024 [--out DIRECTORY] [--plot SVG]

Simulated runs (benchmarks.generate): of 64 ranks with so many events, and of so many ranks with as
many steps as `--events-by-rank` makes. Each task is done in a fresh process: `open`
a run for the first time, open it again (`reopen`), make the timeline's `index`, a whole `report`,
`compare` the run with itself, and answer a timeline's `window`. Seconds are those of the processor,
user and system, from when our modules are imported; other work beside it changes them little.
`wall_s` are those that passed. Memory is the most that the process had resident, files that it maps
included. The exponent is that of the straight line through the logarithms: 1 is linear.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks._figures import show
from benchmarks._plot import Series, write_plot
from benchmarks._scale_task import TASKS
from benchmarks.generate import events_per_step, simulated
from benchmarks.simulated.writing import Hosts, write_run

_ROOT: Final = Path(__file__).resolve().parents[1]
_PER_HOST: Final = 8
_PIPELINE, _TENSOR = 4, 2
_MICROBATCHES: Final = 8


@dataclass(kw_only=True, slots=True, frozen=True)
class Measured:
    """One task on one run. `value`: what it said itself (a window: ms), None for the others."""

    task: str
    series: str
    ranks: int
    events: int
    cpu_s: float
    wall_s: float
    peak_mb: float
    value: float | None

    @property
    def cost(self) -> float:
        """What must not grow: ms of a window, processor seconds of all else."""
        return self.cpu_s if self.value is None else self.value


def _numbers(context: click.Context, option: click.Parameter, said: str) -> tuple[int, ...]:
    try:
        return tuple(int(float(part)) for part in said.split(",") if part)
    except ValueError as error:
        raise click.BadParameter(f"{said!r}: numbers with commas between, as 1e5,1e6") from error


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--events", default="1e5,1e6", callback=_numbers, help="Of runs of equal ranks.")
@click.option("--ranks-by-events", default=64, help="Of each run, where events differ.")
@click.option("--ranks", default="8,64,256", callback=_numbers, help="Of runs of equal length.")
@click.option("--events-by-rank", default=4_000, help="Of each rank, where ranks differ.")
@click.option("--tasks", default=",".join(TASKS), help="Only these, in this order.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the runs there, or use them.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw all of it, as SVG.")
def main(
    events: tuple[int, ...],
    ranks_by_events: int,
    ranks: tuple[int, ...],
    events_by_rank: int,
    tasks: str,
    out: Path | None,
    plot: Path | None,
) -> None:
    """Print every figure, and a table on the terminal."""
    with tempfile.TemporaryDirectory() as directory:
        place = out or Path(directory)
        found = []
        wanted = [("events", ranks_by_events, count) for count in events]
        wanted += [("ranks", count, count * events_by_rank) for count in ranks]
        for series, of_ranks, of_events in wanted:
            for one in _measured(place, series, of_ranks, of_events, tasks.split(",")):
                found.append(one)
                _show(one)
            if out is None:
                shutil.rmtree(place / _name(of_ranks, of_events))
    exponents = dict(_exponents(found))
    for (task, series), exponent in exponents.items():
        show(f"scale.{task}_exponent_in_{series}", exponent, "exponent", 1)
    for series in ("events", "ranks"):
        peaks = [one.peak_mb for one in found if (one.task, one.series) == ("report", series)]
        if peaks and min(peaks) > 0:
            show(f"scale.report_peak_growth_by_{series}", peaks[-1] / peaks[0], "ratio", 1)
    Console(stderr=True, width=140).print(_table(found))
    if plot is not None:
        write_plot(plot, _series(found, exponents))


def _name(ranks: int, events: int) -> str:
    return f"ranks-{ranks}-events-{events}"


def _measured(
    place: Path, series: str, ranks: int, events: int, tasks: Sequence[str]
) -> Iterator[Measured]:
    path = place / _name(ranks, events)
    if not path.exists():
        _generate(path, ranks, events)
    shutil.rmtree(path / ".rankscope-cache", ignore_errors=True)
    for task in tasks:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks._scale_task", task, str(path)],
            cwd=_ROOT,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise click.ClickException(f"{task} of {path}: exit code {done.returncode}")
        yield Measured(
            task=task,
            series=series,
            ranks=ranks,
            events=events,
            **json.loads(done.stdout),
        )


def _generate(path: Path, ranks: int, events: int) -> None:
    """Beside `path` first: what is there is whole."""
    pipeline = min(_PIPELINE, ranks)
    tensor = min(_TENSOR, ranks // pipeline)
    training = simulated(
        pipeline=pipeline,
        tensor=tensor,
        data=max(ranks // (pipeline * tensor), 1),
        microbatches=_MICROBATCHES,
        jitter=0.05,
        seed=ranks,
    )
    steps = max(round(events / events_per_step(training, kernels=0)), 1)
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    write_run(part, training, steps=steps, hosts=Hosts(ranks_per_host=_PER_HOST))
    part.rename(path)


def _show(one: Measured) -> None:
    at = f"by_{one.series}.r{one.ranks}.e{one.events}"
    show(f"scale.{one.task}_cpu_s.{at}", one.cpu_s, "s", 1)
    show(f"scale.{one.task}_wall_s.{at}", one.wall_s, "s", 1)
    show(f"scale.{one.task}_peak_mb.{at}", one.peak_mb, "MB", 1)
    if one.value is not None:
        show(f"scale.{one.task}_ms.{at}", one.value, "ms", 1)


def _exponents(found: Sequence[Measured]) -> Iterator[tuple[tuple[str, str], float]]:
    """Of each task's cost, by events and by ranks."""
    for series in ("events", "ranks"):
        for task in TASKS:
            mine = [one for one in found if (one.series, one.task) == (series, task)]
            sizes = [one.events if series == "events" else one.ranks for one in mine]
            if len(set(sizes)) > 1:
                line = np.polyfit(np.log(sizes), np.log([max(o.cost, 1e-3) for o in mine]), 1)
                yield (task, series), float(line[0])


def _table(found: Sequence[Measured]) -> Table:
    tasks = [task for task in TASKS if any(one.task == task for one in found)]
    table = Table(title="Processor seconds (windows: ms), and peak memory in MB")
    for name in ("ranks", "events", *tasks):
        table.add_column(name, justify="right")
    for key in dict.fromkeys((one.series, one.ranks, one.events) for one in found):
        mine = {o.task: o for o in found if (o.series, o.ranks, o.events) == key}
        cells = [
            f"{mine[t].cost:,.2f}  {mine[t].peak_mb:,.0f}" if t in mine else "–" for t in tasks
        ]
        table.add_row(f"{key[1]:,}", f"{key[2]:,}", *cells)
    return table


def _series(found: Sequence[Measured], exponents: dict[tuple[str, str], float]) -> Iterator[Series]:
    for series in ("events", "ranks"):
        for task in TASKS:
            mine = [one for one in found if (one.series, one.task) == (series, task)]
            sizes = [one.events if series == "events" else one.ranks for one in mine]
            if not mine:
                continue
            label = task + "".join(
                f", {by} ^ {exponents[task, by]:.2f}"
                for by in ("events", "ranks")
                if (task, by) in exponents
            )
            costs = [one.cost / 1e3 if one.value is not None else one.cost for one in mine]
            peaks = [one.peak_mb for one in mine]
            yield Series(by=series, task=task, label=label, sizes=sizes, seconds=costs, mb=peaks)


if __name__ == "__main__":
    main()
