"""`rankscope calibrate RUN`: measure the links of a run's groups, without its training."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import IO, Final

import click
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dashboard.analysis.communication.latency_bandwidth import fit_lines
from dashboard.analysis.communication.link_peaks import link_peaks
from dashboard.analysis.communication.links import calibrated_operations
from dashboard.analysis.operations import operations
from dashboard.cli.bandwidth import lines_table
from dashboard.cli.opening import open_run
from dashboard.cli.options import StepRange, chosen_steps, json_option, run_argument
from dashboard.cli.tables import console, gbps, show
from dashboard.run import Run
from dashboard.runs.calibration import calibration_notes
from dashboard.runs.recording import Recording
from dashboard.runs.stores import shown
from tracer.calibration_file import CALIBRATION_FILE, read_calibration
from tracer.errors import RankscopeError, UsageError

_MODULE: Final = "collectors.calibrate"
_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells say it."""
_GRACE_S: Final = 10.0
"""For the processes to end when they are asked to; then they are killed."""
_LAST_LINES: Final = 12


class CalibrationFailed(RankscopeError):
    """The processes that measure ended with an error."""


@click.command("calibrate")
@run_argument
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: RUN/calibration.json."
)
@click.option("--low", default=4096, metavar="BYTES", show_default=True, help="Smallest size.")
@click.option("--high", default=64 << 20, metavar="BYTES", show_default=True, help="Largest size.")
@click.option(
    "--seconds", default=0.2, metavar="S", show_default=True, help="Per operation and size."
)
@click.option(
    "--backend", type=click.Choice(["nccl", "gloo"]), help="Default: nccl with a GPU per process."
)
@click.option(
    "--step",
    "steps",
    type=StepRange(),
    help="Only the groups that communicate in these steps: 10:20, 10:, :20, 10.",
)
@json_option
def calibrate(
    path: Path | str,
    out: Path | None,
    low: int,
    high: int,
    seconds: float,
    backend: str | None,
    steps: slice | None,
    as_json: bool,
) -> None:
    """Measure what the links of RUN can do: its own groups, each operation, by message size.

    Starts as many processes as RUN had on this host, makes the groups of RUN, and times all_reduce,
    all_gather, reduce_scatter, all_to_all and messages from --low to --high bytes, all groups of a
    dimension at once. RUN/calibration.json then tells `rankscope bandwidth` and the Communication
    page the peak of each link, and α and β where the training used too few sizes.

    Do it where and while nothing else runs. For a run of several hosts, start on each of them, as
    the training was started: torchrun … -m collectors.calibrate RUN

    \b
    Examples:
      rankscope calibrate runs/a                     about a minute per mesh dimension
      rankscope calibrate runs/a --high 1000000      up to 1 MB only
      rankscope calibrate runs/a --step 10           only the groups that step 10 uses
      rankscope calibrate runs/a --out links.json && rankscope bandwidth runs/b --calibration links.json
    """  # noqa: E501 - a command to copy
    if isinstance(path, str):
        raise UsageError(f"{shown(path)}: calibrate needs the run in a directory of this machine")
    run = open_run(path)
    _check(run)
    target = (out or path / CALIBRATION_FILE).absolute()
    sweep = ["--out", str(target), "--low", str(low), "--high", str(high)]
    sweep += ["--seconds", str(seconds), *(["--backend", backend] if backend else [])]
    if steps is not None:
        sweep += [part for name in groups_in(run, steps) for part in ("--group", name)]
    here = socket.gethostname()
    if here not in {facts.host for facts in run.facts.values()}:
        said = f"! this is {here}, {run.name} was recorded elsewhere: the links may be others"
        click.echo(said, err=True)
    _measure([str(path.absolute()), *sweep], run.meta.world_size)
    found = read_calibration(target)
    lines = fit_lines(calibrated_operations(found.points))
    peaks = link_peaks({}, found)
    notes = list(calibration_notes(run, found))
    if as_json:
        plain = {
            "file": str(target),
            "lines": [line.to_json() for line in lines],
            "peaks": {dim: peak.to_json() for dim, peak in peaks.items()},
            "notes": notes,
        }
        click.echo(json.dumps(plain, indent=1))
        return
    printed = console()
    show(printed, lines_table(f"Latency and bandwidth, {found.backend} on {found.device}", lines))
    said = ", ".join(f"{dim} {gbps(peak.gbps)} GB/s" for dim, peak in peaks.items())
    show(printed, Text(f"Largest bus bandwidth: {said}", style="bold"))
    show(printed, Text(f"Written to {target}"))


def groups_in(run: Run, steps: slice) -> list[str]:
    """The groups of two or more ranks that communicate in these steps.

    Raises:
        UsageError: there is none, or no such step.
    """
    table = operations(run, chosen_steps(run, steps))
    several = {name for f in run.facts.values() for name, g in f.groups.items() if len(g.ranks) > 1}
    found = sorted(set(pc.unique(table["group"]).drop_null().to_pylist()) & several)
    if not found:
        raise UsageError(f"{run.path}: no group of two or more ranks communicates in these steps")
    return found


def _check(run: Recording) -> None:
    """Whether its processes can be started here.

    Raises:
        UsageError: they cannot.
    """
    if find_spec("torch") is None:
        raise UsageError("calibrate needs torch: pip install 'rankscope[torch]'")
    hosts = {facts.host for facts in run.facts.values() if facts.host}
    if len(hosts) > 1:
        raise UsageError(
            f"{run.path}: recorded on {len(hosts)} hosts; start on each of them, as the training "
            f"was: torchrun --nnodes {len(hosts)} … -m {_MODULE} {shlex.quote(str(run.path))}"
        )


def _measure(arguments: list[str], processes: int) -> None:
    """Start the processes, show how far they are, and leave none behind.

    Raises:
        CalibrationFailed: they ended with an error.
        SystemExit: interrupted.
    """
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *launch, "-m", _MODULE, *arguments]
    with tempfile.TemporaryFile("w+") as errors, _interruptible() as let_interrupts_in:
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Apart from the terminal: Ctrl-C comes to us alone, and we end them in order.
            start_new_session=True,
            env={"OMP_NUM_THREADS": "1"} | os.environ,
        )
        try:
            let_interrupts_in()
            assert child.stdout is not None
            _follow(child.stdout)
            failed = child.wait() != 0
        except KeyboardInterrupt:
            click.echo("rankscope: interrupted, nothing was written", err=True)
            sys.exit(_INTERRUPTED)
        finally:
            _end(child)
        if failed:
            errors.seek(0)
            raise CalibrationFailed(_told(errors.read()))


def _follow(lines: IO[str]) -> None:
    """Lines of `3/60 tp all_reduce 4,096 B` as a bar; what is left out is said in words."""
    bar = Progress(
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("starting the processes", total=None)
        for line in lines:
            count, _, what = line.strip().partition(" ")
            done, _, total = count.partition("/")
            if not (done.isdigit() and total.isdigit()):
                continue
            what, _, why = what.partition(" left out: ")
            bar.update(task, completed=int(done), total=int(total), description=what)
            if why:
                bar.console.print(Text(f"! {what} left out: {why}", style="yellow"))


def _end(child: subprocess.Popen[str]) -> None:
    """End the launcher and its processes, if they have not ended."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM wait until what this gives is called, then both are KeyboardInterrupt.

    So none comes while a process is started, which nobody could end then.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def let_in() -> None:
        for number in before:
            signal.signal(number, interrupt)
        if came:
            raise KeyboardInterrupt

    try:
        yield let_in
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told(errors: str) -> str:
    """What the processes said last: our own message if there is one, else the last lines."""
    lines = errors.strip().splitlines()
    ours = next((line for line in lines if line.startswith("calibrate: ")), None)
    return ours or "the processes failed:\n" + "\n".join(lines[-_LAST_LINES:])
