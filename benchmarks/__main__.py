"""Run all benchmarks one after another, each for a minute or two, and say which goals are reached.

    python -m benchmarks [--only overhead,hta] [--save FILE.jsonl]

Some ten minutes on two cores; best with nothing else at work. Progress is on standard error, the
tables come at the end, also after Ctrl-C. A peer that is not installed (viztracer, HTA, Perfetto's
trace processor) is left out, with a line that says so. A benchmark that fails or takes longer than
`--patience` is named at the end, and the exit code is 1. `benchmarks.scale` is not among them: it
has a target of its own, `make scale`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import psutil
from rich.console import Console

from benchmarks import _machine
from benchmarks._results import SAVE, Results, command_line, print_figures

_ROOT: Final = Path(__file__).resolve().parents[1]
_ELSEWHERE: Final = {"scale"}
_FIRST: Final = ("overhead", "limits", "reading")
"""What other work disturbs most, while the machine is as quiet as it was at the start."""
_ARGUMENTS: Final = {
    "hta": ("--events", "1.6e6"),
    "window_latency": ("--fetch",),
}
"""Sizes at which goals are stated; the others' defaults will do."""
_QUIET: Final = {"KINETO_LOG_LEVEL": "6"}
"""torch.profiler writes a line whenever it starts or stops."""
_GRACE_S: Final = 5.0
_LOOK_S: Final = 0.1


def names() -> list[str]:
    """All benchmarks, in their order."""
    found = {
        path.stem
        for path in (_ROOT / "benchmarks").glob("*.py")
        if not path.stem.startswith("_") and path.stem not in _ELSEWHERE
    }
    return [*_FIRST, *sorted(found - set(_FIRST))]


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--only", default="", metavar="NAME,…", help="Of " + ", ".join(names()) + ".")
@click.option("--patience", default=300.0, help="Seconds that one of them may take.")
@SAVE
def main(only: str, patience: float, save: Path | None) -> None:
    """Run them, and print the tables."""
    chosen = [name for name in only.split(",") if name] or names()
    unknown = set(chosen) - set(names())
    if unknown:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(names())}")
    console = Console(stderr=True, highlight=False)
    failed: list[str] = []
    with Results(save, command_line()) as results:
        console.print(_machine.in_words(results.machine))
        with _stopped() as stopped:
            for number, name in enumerate(chosen, 1):
                console.print(f"[{number}/{len(chosen)}] {name} …", markup=False)
                began = time.monotonic()
                reason = _run(name, patience, results)
                console.print(f"    {time.monotonic() - began:.0f} s")
                if reason is not None:
                    failed.append(f"{name}: {reason}")
    print_figures(results.figures)
    if save is not None:
        console.print(f"written to {save}")
    for line in failed:
        console.print(line)
    if stopped:
        console.print("interrupted; these are the figures so far")
    sys.exit(130 if stopped else 1 if failed else 0)


@contextlib.contextmanager
def _stopped() -> Iterator[list[bool]]:
    """Not empty after the block if Ctrl-C ended it."""
    found: list[bool] = []
    try:
        yield found
    except KeyboardInterrupt:
        found.append(True)


def _run(name: str, patience: float, results: Results) -> str | None:
    """Run one; what went wrong, or None. Whatever it starts or writes ends with it."""
    with tempfile.TemporaryDirectory(prefix="rankscope-bench-", ignore_cleanup_errors=True) as own:
        process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{name}", *_ARGUMENTS.get(name, ())],
            cwd=_ROOT,
            env=os.environ | {"PYTHONPATH": str(_ROOT), "TMPDIR": own} | _QUIET,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        is_late = threading.Event()
        late = threading.Timer(patience, end, [process, is_late])
        late.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                figure = _figure(line)
                if figure is not None:
                    results.add(figure)
            status = process.wait()
        finally:
            late.cancel()
            end(process)
    if is_late.is_set():
        return f"took longer than {patience:g} s"
    return f"exit code {status}" if status else None


def _figure(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"name", "value", "unit"} <= set(found) else None


def end(process: subprocess.Popen[str], because: threading.Event | None = None) -> None:
    """End it and all that it started.

    First as Ctrl-C would, so that they clean up. Those of its session at once; torchrun's ranks
    have sessions of their own, and are left alone by a torchrun that ends while it starts them.
    """
    if because is not None:
        because.set()
    family: set[psutil.Process] = set()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        family |= _descendants(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline:
            process.poll()
            family |= _descendants(process.pid)
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                break
            time.sleep(_LOOK_S)
        else:
            continue
        break
    for left in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()


def _descendants(pid: int) -> set[psutil.Process]:
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


if __name__ == "__main__":
    main()
