"""One thing that is done with a large run, in a process of its own, for benchmarks.scale."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from dashboard import open_run
from dashboard.cli import main as rankscope
from dashboard.timeline.index import open_timeline
from dashboard.timeline.window import Window, query
from dashboard.timeline.wire import encode

_WINDOWS: Final = 200
_WIDTH: Final = 1_600
_ROWS: Final = 75
_DEEPEST: Final = 1e-6
_SEED: Final = 20_261_127


def _open(path: Path) -> None:
    assert open_run(path).event_count


def _index(path: Path) -> None:
    open_timeline(open_run(path))


def _report(path: Path) -> None:
    _run("report", str(path))


def _report_by_one(path: Path) -> None:
    _run("report", str(path), "--workers", "1")


def _report_by_two(path: Path) -> None:
    _run("report", str(path), "--workers", "2")


def _compare(path: Path) -> None:
    _run("compare", str(path), str(path))


def _window(path: Path) -> float:
    """Of random windows of all zooms over some rows, the median time of an answer, ms."""
    timeline = open_timeline(open_run(path))
    chosen = random.Random(_SEED)
    begin, end = timeline.span
    times = []
    for _ in range(_WINDOWS):
        width = max(int((end - begin) * _DEEPEST ** chosen.random()), 100)
        start = begin + int((end - begin - width) * chosen.random())
        row = chosen.randrange(max(timeline.row_count - _ROWS, 1))
        window = Window(
            start=start,
            end=start + width,
            width=_WIDTH,
            first_row=row,
            end_row=min(row + _ROWS, timeline.row_count),
        )
        began = time.perf_counter()
        encode(timeline, query(timeline, window), asked_ns_per_pixel=window.ns_per_pixel)
        times.append((time.perf_counter() - began) * 1e3)
    return float(np.median(times[_WINDOWS // 10 :]))


def _run(*arguments: str) -> None:
    sys.argv = ["rankscope", *arguments]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            rankscope()
        except SystemExit as done:
            if done.code not in (0, None):
                raise


def _most_resident() -> int:
    """Bytes since this program was started; getrusage would count its parent's, too."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1_024


TASKS: Final[dict[str, Callable[[Path], float | None]]] = {
    "open": _open,
    "reopen": _open,
    "index": _index,
    "report": _report,
    "compare": _compare,
    "window": _window,
}
"""In the order in which they have to be done: what the first ones keep, the others use."""

WORKERS: Final[dict[str, Callable[[Path], float | None]]] = {
    "report_by_1_worker": _report_by_one,
    "report_by_2_workers": _report_by_two,
}
"""Those whose wall times are compared."""


if __name__ == "__main__":
    task, began, cpu = (TASKS | WORKERS)[sys.argv[1]], time.perf_counter(), time.process_time()
    found = task(Path(sys.argv[2]))
    taken = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - began}
    print(json.dumps(taken | {"peak_mb": _most_resident() / 1e6, "value": found}))
