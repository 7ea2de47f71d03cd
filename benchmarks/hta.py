"""From Kineto files to temporal breakdown and overlap: Rankscope beside Holistic Trace Analysis.

    python -m benchmarks.hta --events 1.6e6 [--ranks 8] [--rounds 1]

The same made-up files for both (no GPU was there), each way in a fresh process, in turn: HTA as its
README has it (`TraceAnalysis(trace_dir=…)`, one process per rank), and Rankscope on the folder as
it is, which imports it; and `again`, when that is done. Seconds are those that pass from when
Python has started, HTA's and our modules included. Memory is the largest sum of what the process
and its children hold, pages that they share counted once (PSS), looked at every 50 ms. Each way
goes through a few events before, uncounted, so that Python has compiled all of its modules, those
of numpy and pandas too, as pip does where it installs a package. The figures
of both must agree to a thousandth (HTA is told not to round kernels to µs). With pandas 3 HTA 0.5.0
cannot read files of 32,768 to 65,535 events. `import.…` is the speed of the import alone, and of
`json.load` and pandas on the same files, which tells nothing yet.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import psutil

from benchmarks._figures import show
from benchmarks._kineto_files import write_kineto_files
from dashboard.runs.caches import FOLDER

_ROOT: Final = Path(__file__).resolve().parents[1]
_LOOK_S: Final = 0.05
_FEW: Final = 7_500
"""Events of a rank; of 300 HTA packs an index into too few bits."""
_SAME: Final = 1e-3
"""HTA's sums of doubles, and shares that it rounds to two digits of a percent."""


@dataclass(kw_only=True, slots=True, frozen=True)
class _Taken:
    wall_s: float
    cpu_s: float
    peak_mb: float
    open_s: float
    figures: dict[str, list[float]] | None


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--events", default=6e4, type=float, help="Of all ranks.")
@click.option("--ranks", default=8, type=click.IntRange(1))
@click.option("--rounds", default=1, type=click.IntRange(1), help="Medians of so many.")
def main(events: float, ranks: int, rounds: int) -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        size = write_kineto_files(place / "traces", ranks=ranks, events=int(events))
        show("hta.kineto_mb", size / 1e6, "MB", ranks)
        tasks = ["rankscope", "again", "json_load"]
        if importlib.util.find_spec("hta") is not None:
            tasks.insert(0, "hta")
            print(f"HTA {version('HolisticTraceAnalysis')}", file=sys.stderr)
        else:
            print("HTA is not installed: pip install HolisticTraceAnalysis", file=sys.stderr)
        write_kineto_files(place / "few", ranks=ranks, events=_FEW * ranks)
        for task in tasks:
            _measured(task, place, "few")
        taken: dict[str, list[_Taken]] = {task: [] for task in tasks}
        for _ in range(rounds):
            shutil.rmtree(place / "traces" / FOLDER, ignore_errors=True)
            for task in tasks:
                taken[task].append(_measured(task, place))
    for task, found in taken.items():
        show(f"hta.{task}_s", median(one.wall_s for one in found), "s", rounds)
        show(f"hta.{task}_cpu_s", median(one.cpu_s for one in found), "s", rounds)
        show(f"hta.{task}_mb", median(one.peak_mb for one in found), "MB", rounds)
    speed = {task: size / 1e6 / median(o.open_s for o in found) for task, found in taken.items()}
    show("import.kineto_mb_per_s", speed["rankscope"], "MB/s", rounds)
    show("import.json_load_mb_per_s", speed["json_load"], "MB/s", rounds)
    show("import.vs_json_load", speed["rankscope"] / speed["json_load"], "ratio", rounds)
    if "hta" in taken:
        _compare(taken, rounds)


def _compare(taken: dict[str, list[_Taken]], rounds: int) -> None:
    theirs, ours = taken["hta"], taken["rankscope"]
    _same(theirs[0].figures, ours[0].figures)
    for name, ratio in (
        ("speedup", _ratio(theirs, ours, "wall_s")),
        ("cpu_speedup", _ratio(theirs, ours, "cpu_s")),
        ("memory_ratio", _ratio(theirs, ours, "peak_mb")),
        ("speedup_again", _ratio(theirs, taken["again"], "wall_s")),
        ("memory_ratio_again", _ratio(theirs, taken["again"], "peak_mb")),
    ):
        show(f"hta.{name}", ratio, "ratio", rounds)


def _ratio(theirs: list[_Taken], ours: list[_Taken], what: str) -> float:
    return float(
        median(getattr(one, what) for one in theirs) / median(getattr(one, what) for one in ours)
    )


def _same(theirs: Any, ours: Any) -> None:
    """Both measured the same."""
    for rank, (idle, compute, other, hidden) in theirs.items():
        our_idle, our_compute, our_other, our_hidden = ours[rank]
        whole = our_idle + our_compute + our_other
        for a, b in ((idle, our_idle), (compute, our_compute), (other, our_other)):
            if abs(a - b) > _SAME * whole:
                raise click.ClickException(f"rank {rank}: HTA says {a} µs, Rankscope {b} µs")
        if abs(hidden - our_hidden) > 100 * _SAME:
            raise click.ClickException(
                f"rank {rank}: HTA says {hidden} %, Rankscope {our_hidden} %"
            )


def _measured(task: str, place: Path, files: str = "traces") -> _Taken:
    log = place / f"{task}.log"  # HTA logs what it does
    with log.open("w") as errors:
        process = psutil.Popen(
            [sys.executable, "-m", "benchmarks._hta_task", task, str(place / files)],
            cwd=_ROOT,
            env=os.environ
            | {"PYTHONPATH": str(_ROOT), "HTA_DISABLE_NS_ROUNDING": "1"}
            | {"PYTHONPYCACHEPREFIX": str(place / "compiled"), "PYTHONDONTWRITEBYTECODE": ""},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with _watched(process) as most:
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
    if status:
        last = log.read_text().strip().rpartition("\n")[2]
        code = os.waitstatus_to_exitcode(status)
        raise click.ClickException(f"{task}: exit code {code}: {last}")
    found = json.loads(said.splitlines()[-1])
    return _Taken(
        wall_s=found["wall_s"],
        open_s=found.get("open_s", found["wall_s"]),
        cpu_s=used.ru_utime + used.ru_stime,
        peak_mb=most[0] / 1e6,
        figures=found["figures"],
    )


@contextlib.contextmanager
def _watched(process: psutil.Popen) -> Iterator[list[int]]:
    """The largest sum of memory so far, while the block runs."""
    most, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_S):
            with contextlib.suppress(psutil.Error, OSError):
                family = [process.pid, *(child.pid for child in process.children(recursive=True))]
                most[0] = max(most[0], sum(map(_shared_once, family)))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def _shared_once(pid: int) -> int:
    """The process's part of the memory that it holds, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1_024
    return 0


if __name__ == "__main__":
    main()
