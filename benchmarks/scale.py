"""How time and memory of the analyses grow with the events of a run and with its ranks.

    python -m benchmarks.scale --events 1e5,1e6,1e7 --ranks 8,64,1024 [--plot SVG] [--save FILE]

Simulated runs (benchmarks.generate): of 64 ranks with so many events, and of so many ranks with as
many steps as `--events-by-rank` makes. Each task is done in a fresh process: `open`
a run for the first time, open it again (`reopen`), make the timeline's `index`, a whole `report`,
`compare` the run with itself, and answer a timeline's `window`. Seconds are those of the processor,
user and system, from when our modules are imported; other work beside it changes them little.
`wall_s` are those that passed. Memory is the most that the process had resident, files that it maps
included. The exponent is that of the straight line through the logarithms: 1 is linear. The growth
of memory is that between the two longest runs, that of windows between the shortest and the longest
run of at least a million events. `report_speedup_of_2_workers`: wall time of `rankscope report
--workers 1` over that with 2.

Smaller runs come first, and nothing is begun or goes on after `--minutes`: what was not done is a
dash in the table. A hundred million events (`--events 1e8`) take a gigabyte of disk, four more for
the timeline's index, and 20 minutes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import _machine
from benchmarks._children import told_by
from benchmarks._figures import figure
from benchmarks._plot import Series, write_plot
from benchmarks._results import SAVE, Results, command_line, print_goals
from benchmarks._scale_task import TASKS, WORKERS
from benchmarks.generate import events_per_step, simulated
from benchmarks.simulated.writing import Hosts, write_run

_PER_HOST: Final = 8
_PIPELINE, _TENSOR = 4, 2
_MICROBATCHES: Final = 8
_FOR_WORKERS: Final = 1_000_000
_MANY: Final = 1_000_000


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


@dataclass(kw_only=True, slots=True, frozen=True)
class _Run:
    """A run to be measured; `series`: what differs among those that it is compared with."""

    series: str
    ranks: int
    events: int

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"ranks-{self.ranks}-events-{self.events}"


class _TooLate(Exception):
    """The minutes are over."""


@dataclass(kw_only=True, slots=True)
class _Sitting:
    """Where the runs are, until when (seconds of time.monotonic), and what was found."""

    place: Path
    until: float
    results: Results
    found: list[Measured]

    def show(self, name: str, value: float, unit: str) -> None:
        """One more figure."""
        made = figure(f"scale.{name}", value, unit, 1)
        self.results.add(made)
        print(json.dumps(made), flush=True)

    def left(self) -> float:
        """Seconds.

        Raises:
            _TooLate: none.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise _TooLate
        return left


def _numbers(context: click.Context, option: click.Parameter, said: str) -> tuple[int, ...]:
    try:
        return tuple(int(float(part)) for part in said.split(",") if part)
    except ValueError as error:
        raise click.BadParameter(f"{said!r}: numbers with commas between, as 1e5,1e6") from error


def _tasks(context: click.Context, option: click.Parameter, said: str) -> tuple[str, ...]:
    chosen = tuple(part for part in said.split(",") if part)
    unknown = set(chosen) - TASKS.keys() - {"workers"}
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(TASKS)}, workers")
    return chosen


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--events", default="1e5,1e6", callback=_numbers, help="Of runs of equal ranks.")
@click.option("--ranks-by-events", default=64, help="Of each run, where events differ.")
@click.option("--ranks", default="8,64,256", callback=_numbers, help="Of runs of equal length.")
@click.option("--events-by-rank", default=4_000, help="Of each rank, where ranks differ.")
@click.option(
    "--tasks",
    default=",".join([*TASKS, "workers"]),
    callback=_tasks,
    help="Only these, in this order; workers: the report by one and by two processes.",
)
@click.option("--minutes", default=20.0, type=click.FloatRange(0), help="For all of it, at most.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the runs there, or use them.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw all of it, as SVG.")
@SAVE
def main(
    events: tuple[int, ...],
    ranks_by_events: int,
    ranks: tuple[int, ...],
    events_by_rank: int,
    tasks: tuple[str, ...],
    minutes: float,
    out: Path | None,
    plot: Path | None,
    save: Path | None,
) -> None:
    """Print every figure as it comes, and tables at the end."""
    wanted = [_Run(series="events", ranks=ranks_by_events, events=count) for count in events]
    wanted += [_Run(series="ranks", ranks=n, events=n * events_by_rank) for n in ranks]
    until = time.monotonic() + 60 * minutes
    done = False
    with (
        tempfile.TemporaryDirectory(prefix="rankscope-scale-") as directory,
        Results(save, command_line()) as results,
    ):
        _say(_machine.in_words(results.machine))
        sitting = _Sitting(place=out or Path(directory), until=until, results=results, found=[])
        try:
            _measure_all(sitting, sorted(wanted, key=lambda run: run.events), tasks, out is None)
            done = True
        except _TooLate:
            _say(f"{minutes:g} minutes are over; what was not done is left out (--minutes)")
        except KeyboardInterrupt:
            _say("interrupted; this is what was done")
        exponents = dict(_exponents(sitting.found))
        _show_growth(sitting, exponents)
    console = Console(stderr=True, width=140)
    console.print(_table(sitting.found))
    print_goals(results.figures, console)
    if plot is not None and sitting.found:
        write_plot(plot, _series(sitting.found, exponents))
    sys.exit(0 if done or time.monotonic() > until else 130)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _measure_all(
    sitting: _Sitting, wanted: Sequence[_Run], tasks: Sequence[str], is_temporary: bool
) -> None:
    for_workers = next((run for run in reversed(wanted) if run.events <= _FOR_WORKERS), None)
    for number, run in enumerate(wanted, 1):
        said = f"[{number}/{len(wanted)}] {run.ranks:,} ranks, {run.events:,} events:"
        _say(f"{said} {sitting.left() / 60:.0f} minutes left")
        path = sitting.place / run.name
        if not path.exists():
            _generate(path, run.ranks, run.events)
        shutil.rmtree(path / ".rankscope-cache", ignore_errors=True)
        for task in (task for task in tasks if task in TASKS):
            one = _measured(sitting, run, path, task)
            sitting.found.append(one)
            _show(sitting, one)
        if "workers" in tasks and run is for_workers:
            one, two = (_done(sitting, task, path)["wall_s"] for task in WORKERS)
            sitting.show("report_speedup_of_2_workers", one / two, "ratio")
        if is_temporary:
            shutil.rmtree(path)


def _measured(sitting: _Sitting, run: _Run, path: Path, task: str) -> Measured:
    found = _done(sitting, task, path)
    return Measured(task=task, series=run.series, ranks=run.ranks, events=run.events, **found)


def _done(sitting: _Sitting, task: str, path: Path) -> dict[str, float]:
    """What the task says of itself, done in a process of its own."""
    _say(f"    {task}")
    command = [sys.executable, "-m", "benchmarks._scale_task", task, str(path)]
    try:
        return told_by(command, timeout=sitting.left())
    except subprocess.TimeoutExpired as error:
        raise _TooLate from error
    except subprocess.CalledProcessError as error:
        said = f"{task} of {path.name}: exit code {error.returncode}"
        raise click.ClickException(said) from error


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


def _show(sitting: _Sitting, one: Measured) -> None:
    at = f"by_{one.series}.r{one.ranks}.e{one.events}"
    sitting.show(f"{one.task}_cpu_s.{at}", one.cpu_s, "s")
    sitting.show(f"{one.task}_wall_s.{at}", one.wall_s, "s")
    sitting.show(f"{one.task}_peak_mb.{at}", one.peak_mb, "MB")
    if one.value is not None:
        sitting.show(f"{one.task}_ms.{at}", one.value, "ms")


def _show_growth(sitting: _Sitting, exponents: dict[tuple[str, str], float]) -> None:
    for (task, series), exponent in exponents.items():
        sitting.show(f"{task}_exponent_in_{series}", exponent, "exponent")
    by_events = [one for one in sitting.found if one.series == "events"]
    reports = [one.peak_mb for one in by_events if one.task == "report"]
    if len(reports) > 1:
        sitting.show("report_peak_growth_by_events", reports[-1] / reports[-2], "ratio")
    of_many = (one for one in by_events if one.events >= _MANY)
    windows = [one.cost for one in of_many if one.task == "window"]
    if len(windows) > 1:
        sitting.show("window_growth_by_events", windows[-1] / windows[0], "ratio")


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
