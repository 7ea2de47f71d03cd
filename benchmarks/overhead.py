"""What recording costs the training: per event, per span, per hooked call, and in bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import click
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from benchmarks._figures import median_ns, show, timed_ns
from benchmarks._peers import ROUNDS as ROUNDS_OF_PEERS
from benchmarks._peers import peers
from tracer import Tracer
from tracer.batches import record_batch
from tracer.recorder import Recorder
from tracer.rings import NONE, pack_operation
from tracer.schema import EVENT_SCHEMA, Kind
from tracer.streams import StreamWriter, read_stream

EVENTS = 10_000
"""Per sample; fits the ring, so that nothing is dropped."""

REPEATS = 15
CALLS = 300
BLOCKS = 5
"""Of so many calls, one after the other; the median of them counts."""

ROUNDS = 11
"""Traced and untraced rounds alternate, so that a slow phase of the machine hits both."""


SAMPLES = Path(__file__).resolve().parents[1] / "sample_traces"


@click.command()
@click.option(
    "--rounds", default=ROUNDS_OF_PEERS, show_default=True, type=click.IntRange(1), help="Of peers."
)
def main(rounds: int) -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as directory:
        hot_path(Path(directory) / "spans")
        writing(Path(directory) / "writing")
        # torch's fake backend returns at once: what is measured is what recording adds, and not
        # how the threads of gloo take turns, which varies by more than that.
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
        torch.set_num_threads(1)
        hooks(Path(directory))
        peers(Path(directory), rounds)
        dist.destroy_process_group()
    disk()


def hot_path(directory: Path) -> None:
    """One event with its two clock reads, as a hook records it; one `with` block of the user.

    The call that holds them is not ours, so what an empty one takes is subtracted.
    """

    def nothing() -> None:
        pass

    # Nothing but the recorder: no hooks, and no flush on the same core meanwhile.
    with Tracer(directory, collectors=[], flush_interval_s=3600) as t:
        recorder = t.recorder
        clock, name, kind = recorder.clock, recorder.names.intern("all_reduce"), int(Kind.USER)

        def one_event() -> None:
            start = clock()
            recorder.emit(kind, name, start, clock() - start)

        def one_span() -> None:
            with t.span("augment"):
                pass

        empty, event, span = (
            median_ns(call, samples=REPEATS, calls=EVENTS)
            for call in (nothing, one_event, one_span)
        )
    show("overhead.ns_per_event", event - empty, "ns", REPEATS)
    show("overhead.ns_per_span", span - empty, "ns", REPEATS)


def writing(path: Path) -> None:
    """What the writer thread spends on an event, and what an event takes on disk."""
    recorder = Recorder()
    recorder.active = True
    writer = StreamWriter(path, EVENT_SCHEMA, "events", run_id="benchmark", rank=0)
    for words in (recorder.groups, recorder.dtypes):
        words.intern("one")
    names = [recorder.names.intern(name) for name in ("F", "B", "send", "recv")]

    def drain() -> None:
        for records in recorder.drain():
            writer.write(record_batch(records, recorder))

    taken = []
    for _ in range(REPEATS):
        for number in range(EVENTS):
            start = recorder.clock()
            operation = pack_operation(
                names[number % 4], NONE, NONE, 0, number, 4096, 1024, number, NONE, 1, 0
            )
            recorder.emit_operation(Kind.SEND, start, recorder.clock() - start, operation)
        taken.append(timed_ns(drain))
    writer.close()
    written = REPEATS * EVENTS - recorder.dropped
    show("overhead.writer_ns_per_event", median(taken) / EVENTS, "ns", REPEATS)
    show("overhead.bytes_per_event", path.stat().st_size / written, "bytes", written)


def hooks(directory: Path) -> None:
    """What the hooks add to an all_reduce of one process, its wait included.

    The first calls after the start take longer (ring and hooks are in no cache): by themselves.
    """
    tensor = torch.ones(16)

    def all_reduce() -> None:
        dist.all_reduce(tensor)

    plain, traced, first = [], [], []
    for number in range(ROUNDS):
        plain.append(median_ns(all_reduce, samples=BLOCKS, calls=CALLS))
        with Tracer(directory / f"hooks-{number}"):
            first.append(median_ns(all_reduce, samples=1, calls=CALLS))
            traced.append(median_ns(all_reduce, samples=BLOCKS, calls=CALLS))
    show("overhead.ns_plain_all_reduce", median(plain), "ns", ROUNDS)
    show("overhead.ns_per_collective", median(traced) - median(plain), "ns", ROUNDS)
    show("overhead.ns_per_collective_at_start", median(first) - median(plain), "ns", ROUNDS)


def disk() -> None:
    """Bytes per event of runs that were really recorded, everything in their files included."""
    files = list(SAMPLES.glob("*/rank-?????.arrows"))
    events = sum(read_stream(file, "events").table.num_rows for file in files)
    show(
        "disk.samples_bytes_per_event",
        sum(f.stat().st_size for f in files) / events,
        "bytes",
        events,
    )


if __name__ == "__main__":
    main()
