"""The timeline of a very large run: how long its index, its windows and its pixels take.

    python -m benchmarks.dashboard --events 1e7 --ranks 64 [--out DIRECTORY] [--no-browser]

Writes a synthetic run (unless DIRECTORY has it), opens it once without and once with its index, and
asks the server for random windows: of all zooms from the whole run to a millionth of it, evenly by
order of magnitude, each where some rank has events. A window is as the page asks for it at
1280 × 800: three screens of rows, twice the width (`window`), and all rows at 1,600 pixels
(`all_rows`). Times are those of a client on the same machine, compression included, so that the
server's own are a little less. In Chromium, where it is installed: to the first picture, from
a jump to a random window to its pixels, and pictures per second while panning.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import numpy as np

from benchmarks._chromium import measure_browser
from benchmarks._figures import show
from benchmarks._synthetic import write_synthetic_run
from dashboard import open_run
from dashboard.timeline.index import FILE, needs_index, open_timeline
from dashboard.timeline.lanes import Timeline

_ROOT: Final = Path(__file__).resolve().parents[1]
_SEED: Final = 20_261_124
_PAGE_PIXELS: Final = 2 * (1280 - 132)
_PAGE_ROWS: Final = 75
_ALL_ROWS_PIXELS: Final = 1_600
_DEEPEST: Final = 1e-6
_WARM_UP: Final = 20


@click.command()
@click.option("--events", default=3e5, show_default=True, type=float, help="Of all ranks, about.")
@click.option("--ranks", default=64, show_default=True, type=click.IntRange(1))
@click.option("--windows", default=300, show_default=True, type=click.IntRange(1))
@click.option("--out", type=click.Path(path_type=Path), help="Keep the run there, or use it.")
@click.option("--browser/--no-browser", default=True, help="Measure in Chromium, too.")
def main(events: float, ranks: int, windows: int, out: Path | None, browser: bool) -> None:
    """Print every figure; its name ends with how many events there are."""
    suffix = _short(int(events))
    with tempfile.TemporaryDirectory() as directory:
        path = out or Path(directory) / "run"
        if not path.exists():
            write_synthetic_run(path, events=int(events), ranks=ranks)
        timeline = _open(path, suffix)
        with _served(path) as server:
            show(f"timeline.open_s_{suffix}", server.opened_s, "s", 1)
            _first_paint(server, suffix)
            _windows(server, timeline, windows, suffix)
            show(f"timeline.server_rss_mb_{suffix}", server.memory("VmRSS"), "MB", 1)
            show(f"timeline.server_anonymous_mb_{suffix}", server.memory("RssAnon"), "MB", 1)
            if browser:
                places = [(one.start, one.end) for one in _random_windows(timeline, 40)]
                for name, value, unit, samples in measure_browser(server.address, places):
                    show(f"timeline.{name}_{suffix}", value, unit, samples)


def _short(events: int) -> str:
    """10000000 → 10m."""
    millions, thousands = divmod(events, 1_000_000)
    return f"{millions}m" if millions and not thousands else f"{events // 1_000}k"


def _open(path: Path, suffix: str) -> Timeline:
    """Read the run and make its index, if that is not done."""
    began = time.perf_counter()
    run = open_run(path)
    read = time.perf_counter()
    fresh = needs_index(run)
    timeline = open_timeline(run)
    if fresh:
        show(f"timeline.first_read_s_{suffix}", read - began, "s", 1)
        show(f"timeline.index_s_{suffix}", time.perf_counter() - read, "s", 1)
    show(f"timeline.events_{suffix}", len(timeline.start), "events", 1)
    for file in path.rglob(FILE):
        size = file.stat().st_size / len(timeline.start)
        show(f"timeline.index_bytes_per_event_{suffix}", size, "bytes", 1)
    return timeline


@dataclass(kw_only=True)
class _Server:
    """A dashboard in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    opened_s: float
    sizes: list[int] = field(default_factory=list)

    def get(self, path: str, encoding: str = "gzip, deflate, br, zstd") -> bytes:
        """The reply's body as it came."""
        where = urlsplit(self.address)
        connection = http.client.HTTPConnection(where.netloc, timeout=600)
        connection.request("GET", path, headers={"Accept-Encoding": encoding})
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        if reply.status != 200:
            raise SystemExit(f"{path}: {reply.status} {body[:200]!r}")
        return body

    def memory(self, what: str) -> float:
        """A line of /proc/PID/status, in MB (1e6 bytes)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(f"{what}:"))
        return int(line.split()[1]) * 1_024 / 1e6


@contextmanager
def _served(path: Path) -> Iterator[_Server]:
    command = "from dashboard.cli import main; main()"
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", command, "dashboard", str(path), "--port", "0"],
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[2]
        opened = time.perf_counter() - began
        yield _Server(process=process, address=address, opened_s=opened)
    finally:
        process.terminate()
        process.wait()


def _first_paint(server: _Server, suffix: str) -> None:
    """All that the server does until the first picture: page, lanes, window, overview."""
    began = time.perf_counter()
    server.get("/timeline")
    lanes: dict[str, Any] = json.loads(server.get(_API + "lanes", "identity"))
    start, end = lanes["span"]
    server.get(_window_path(start, end, _PAGE_PIXELS, 0, min(_PAGE_ROWS, lanes["rows"])))
    server.get(_window_path(start, end, _PAGE_PIXELS // 2, 0, lanes["rows"]))
    taken = (time.perf_counter() - began) * 1e3
    show(f"timeline.first_paint_server_ms_{suffix}", taken, "ms", 1)


_API: Final = "/api/timeline/0/"


@dataclass(kw_only=True, frozen=True)
class _Place:
    start: int
    end: int
    row: int


def _random_windows(timeline: Timeline, count: int) -> Iterator[_Place]:
    """Around random events, of random widths."""
    choice = random.Random(_SEED)
    span = timeline.span[1] - timeline.span[0]
    for _ in range(count):
        event = choice.randrange(len(timeline.start))
        width = max(int(span * _DEEPEST ** choice.random()), 100)
        start = int(timeline.start[event]) - int(width * choice.random())
        row = int(np.searchsorted(timeline.offsets, event, side="right")) - 1
        yield _Place(start=start, end=start + width, row=row)


def _windows(server: _Server, timeline: Timeline, count: int, suffix: str) -> None:
    rows = timeline.row_count
    for name, pixels, shown in (
        ("window", _PAGE_PIXELS, min(_PAGE_ROWS, rows)),
        ("all_rows", _ALL_ROWS_PIXELS, rows),
    ):
        times, sizes = [], []
        for place in _random_windows(timeline, _WARM_UP + count):
            first = max(0, min(place.row - shown // 2, rows - shown))
            began = time.perf_counter()
            path = _window_path(place.start, place.end, pixels, first, first + shown)
            sizes.append(len(server.get(path)) / 1e3)
            times.append((time.perf_counter() - began) * 1e3)
        times, sizes = times[_WARM_UP:], sizes[_WARM_UP:]
        show(f"timeline.{name}_p50_ms_{suffix}", float(np.median(times)), "ms", count)
        show(f"timeline.{name}_p95_ms_{suffix}", float(np.quantile(times, 0.95)), "ms", count)
        show(f"timeline.{name}_p95_kb_{suffix}", float(np.quantile(sizes, 0.95)), "kB", count)
        show(f"timeline.{name}_most_kb_{suffix}", max(sizes), "kB", count)


def _window_path(start: int, end: int, width: int, first_row: int, end_row: int) -> str:
    return f"{_API}window?t0={start}&t1={end}&width={width}&row0={first_row}&row1={end_row}"


if __name__ == "__main__":
    main()
