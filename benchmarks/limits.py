"""How far each hot path is from its floor: what the machine itself takes for the least of the work.

    python -m benchmarks.limits [--events 1e6]

Recording an event: two readings of the clock and one append to a list of Python. Reading a run:
its bytes from the page cache, and pyarrow's own reading of the same streams, which unpacks them and
checks nothing. Reducing it: one pass over the columns that every analysis needs, by numpy. Each
figure that ends with `_times` is ours over that floor, from the same process.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa

from benchmarks._figures import median_ns, show
from benchmarks._synthetic import write_synthetic_run
from dashboard import open_run
from tracer.recorder import Recorder
from tracer.schema import Kind

_RECORDED: int = 10_000
"""Per sample; fits the ring, so that nothing is dropped."""
_SAMPLES: int = 15
_READINGS: int = 5
_RANKS: int = 8
_ANALYSES = ("accounting", "bubbles", "bandwidth")
_NEEDED = ("start", "duration", "kind", "step", "microbatch")
"""Columns, dictionary codes where they are words, that a result by rank, step and kind reads."""


@click.command(help=__doc__)
@click.option("--events", default=1e6, show_default=True, type=float, help="Of all ranks, about.")
def main(events: float) -> None:
    """Print every figure."""
    _recording()
    with tempfile.TemporaryDirectory() as directory:
        path = write_synthetic_run(Path(directory) / "run", events=int(events), ranks=_RANKS)
        _loading(Path(directory) / "small")
        _reading(path)
        _reducing(path)


def _recording() -> None:
    clock = time.perf_counter_ns
    kept: list[tuple[int, int]] = []

    def least() -> None:
        start = clock()
        kept.append((start, clock() - start))

    recorder = Recorder()
    recorder.active = True
    name = recorder.names.intern("all_reduce")

    def ours() -> None:
        start = recorder.clock()
        recorder.emit(Kind.USER, name, start, recorder.clock() - start)

    floor = median_ns(least, samples=_SAMPLES, calls=_RECORDED)
    event = median_ns(ours, samples=_SAMPLES, calls=_RECORDED)
    show("limits.record_floor_ns", floor, "ns", _SAMPLES)
    show("limits.record_ns", event, "ns", _SAMPLES)
    show("limits.record_times", event / floor, "ratio", _SAMPLES)


def _reading(path: Path) -> None:
    files = sorted(path.glob("rank-*.arrows"))
    size = sum(file.stat().st_size for file in files)
    rows = sum(pa.ipc.open_stream(file.read_bytes()).read_all().num_rows for file in files)

    def bytes_alone() -> None:
        for file in files:
            file.read_bytes()

    def unpacked() -> None:
        for file in files:
            pa.ipc.open_stream(pa.memory_map(str(file))).read_all()

    def ours() -> None:
        for table in open_run(path).tables.values():
            assert table.num_rows

    raw, arrow, taken = (
        median_ns(call, samples=_READINGS) for call in (bytes_alone, unpacked, ours)
    )
    show("limits.bytes_per_event", size / rows, "bytes", rows)
    show("limits.page_cache_gb_per_s", size / raw, "GB/s", _READINGS)
    show("limits.read_arrow_ns_per_event", arrow / rows, "ns", _READINGS)
    show("limits.read_ns_per_event", taken / rows, "ns", _READINGS)
    show("limits.read_over_bytes_times", taken / raw, "ratio", _READINGS)
    show("limits.read_over_arrow_times", taken / arrow, "ratio", _READINGS)


def _loading(path: Path) -> None:
    """Modules are loaded with the first answer, which is not of the run that is measured."""
    run = open_run(write_synthetic_run(path, events=10_000, ranks=_RANKS))
    for name in _ANALYSES:
        getattr(run, name)()


def _reducing(path: Path) -> None:
    run = open_run(path)
    columns = [
        np.ascontiguousarray(_numbers(table[name]))
        for table in run.tables.values()
        for name in _NEEDED
    ]
    size = sum(column.nbytes for column in columns)
    rows = sum(table.num_rows for table in run.tables.values())

    def one_pass() -> None:
        for column in columns:
            column.sum()

    floor = median_ns(one_pass, samples=_READINGS)
    show("limits.memory_gb_per_s", size / floor, "GB/s", _READINGS)
    show("limits.reduce_floor_ns_per_event", floor / rows, "ns", _READINGS)
    for name in _ANALYSES:
        began = time.perf_counter_ns()
        getattr(run, name)()
        taken = time.perf_counter_ns() - began
        show(f"limits.{name}_ns_per_event", taken / rows, "ns", 1)
        show(f"limits.{name}_times", taken / floor, "ratio", 1)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:  # type: ignore[type-arg]
    whole = column.combine_chunks()
    if pa.types.is_dictionary(whole.type):
        whole = whole.indices
    return whole.fill_null(0).to_numpy(zero_copy_only=False)


if __name__ == "__main__":
    main()
