"""Packed records → Arrow → file → Arrow: exact, incremental, and readable however it breaks."""

from __future__ import annotations

import contextlib
import mmap
import resource
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer import streams
from tracer.batches import record_batch
from tracer.errors import DamagedTrace, NewerFormat, NotATrace, TraceError
from tracer.expansion import expansion
from tracer.recorder import Recorder
from tracer.rings import pack_operation
from tracer.schema import EVENT_SCHEMA, Kind, file_metadata
from tracer.streams import StreamWriter, read_stream


class _Writing:
    """A recorder and the stream that takes its batches."""

    def __init__(self, path: Path) -> None:
        self.recorder = Recorder()
        self.recorder.active = True
        self.path = path
        self.stream = StreamWriter(path, EVENT_SCHEMA, "events", run_id="r1", rank=3)

    def emit(self, name: str, start: int) -> None:
        self.recorder.emit(Kind.USER, self.recorder.names.intern(name), start, 1)

    def flush(self) -> None:
        for records in self.recorder.drain():
            self.stream.write(record_batch(records, self.recorder))


def _write(path: Path, batches: list[list[str]], *, close: bool = True) -> None:
    writing = _Writing(path)
    number = 0
    for batch in batches:
        for name in batch:
            writing.emit(name, number)
            number += 1
        writing.flush()
    if close:
        writing.stream.close()


def test_records_come_back_as_words_and_nulls(tmp_path: Path) -> None:
    path = tmp_path / "events.arrows"
    writing = _Writing(path)
    recorder = writing.recorder
    recorder.emit(Kind.USER, recorder.names.intern("augment"), 5, 6)
    recorder.step = 2
    operation = pack_operation(
        recorder.names.intern("send"),
        0,
        0,
        recorder.groups.intern("pp:0-3"),
        0,
        0,
        0,
        0,
        0,
        0,
        recorder.dtypes.intern("float32"),
    )
    recorder.emit_operation(Kind.SEND, 7, 8, operation)
    writing.flush()
    writing.stream.close()
    read = read_stream(path, "events")
    optional = [field.name for field in EVENT_SCHEMA if field.nullable]
    absent = dict.fromkeys(name for name in optional if name != "step")

    assert (read.run_id, read.rank, read.problem) == ("r1", 3, None)
    assert read.table.to_pylist() == [
        {
            "start": 5,
            "duration": 6,
            "kind": "user",
            "name": "augment",
            "lane": "host:main",
            "step": 0,
        }
        | absent,
        {
            "start": 7,
            "duration": 8,
            "kind": "send",
            "name": "send",
            "lane": "host:main",
            "step": 2,
            "stage": 0,
            "microbatch": 0,
            "group": "pp:0-3",
            "seq": 0,
            "peer": 0,
            "bytes": 0,
            "count": 0,
            "dtype": "float32",
            "correlation": 0,
            "flops": 0,
        },
    ]


def test_dictionaries_grow_by_their_difference_only(tmp_path: Path) -> None:
    path = tmp_path / "events.arrows"
    _write(path, [["a"], ["a", "b"], ["b"], ["c", "a"]])
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_stream(source)
        names = [batch["name"].to_pylist() for batch in reader]
        stats = reader.stats

    assert names == [["a"], ["a", "b"], ["b"], ["c", "a"]]
    assert stats.num_dictionary_deltas == 2
    assert stats.num_replaced_dictionaries == 0


def test_every_batch_is_readable_before_the_stream_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "events.arrows"
    writing = _Writing(path)
    for number, name in enumerate("abc"):
        writing.emit(name, number)
        writing.flush()
        read = read_stream(path, "events")

        assert read.problem is None
        assert read.table["name"].to_pylist() == list("abc"[: number + 1])


def test_a_file_cut_anywhere_yields_its_whole_batches_and_nothing_else(tmp_path: Path) -> None:
    """At every fifth byte (messages are aligned to eight), and at every byte near the end."""
    whole = tmp_path / "whole.arrows"
    _write(whole, [["a", "b"], ["c"], ["d", "e", "f"]])
    content = whole.read_bytes()
    prefixes = {0: [], 2: ["a", "b"], 3: ["a", "b", "c"], 6: list("abcdef")}
    cut = tmp_path / "cut.arrows"
    seen = []
    for length in sorted({*range(0, len(content), 5), *range(len(content) - 200, len(content))}):
        cut.write_bytes(content[:length])
        try:
            read = read_stream(cut, "events")
        except TraceError:
            assert not seen
            continue
        names = read.table["name"].to_pylist()
        assert names == prefixes[len(names)]
        seen.append(len(names))

    assert seen == sorted(seen)
    assert set(seen) == {0, 2, 3, 6}


def test_damage_in_the_middle_names_the_file_and_keeps_what_stands_before(tmp_path: Path) -> None:
    path = tmp_path / "events.arrows"
    _write(path, [["a", "b"]], close=False)
    good = path.stat().st_size
    _write(path, [["a", "b"], ["c"]])
    content = bytearray(path.read_bytes())
    content[good + 8 : good + 40] = b"\xff" * 32
    path.write_bytes(bytes(content))
    read = read_stream(path, "events")

    assert read.table["name"].to_pylist() == ["a", "b"]
    assert read.problem is not None
    assert read.problem.startswith(f"{path}: cut off or damaged after 2 rows")


def test_an_empty_file_is_a_rank_that_died_early(tmp_path: Path) -> None:
    path = tmp_path / "events.arrows"
    path.touch()
    with pytest.raises(DamagedTrace, match="empty file"):
        read_stream(path, "events")


def test_what_is_not_ours_is_said_to_be_so(tmp_path: Path) -> None:
    foreign, text, counters = (tmp_path / name for name in ("foreign", "text", "counters"))
    with pa.OSFile(str(foreign), "wb") as sink:
        pa.ipc.new_stream(sink, pa.schema([("x", pa.int64())])).close()
    text.write_text("step,loss\n1,2\n")
    _write(counters, [])

    with pytest.raises(NotATrace, match="was not written by Rankscope"):
        read_stream(foreign, "events")
    with pytest.raises(NotATrace, match="not an Arrow stream"):
        read_stream(text, "events")
    with pytest.raises(NotATrace, match=r"holds 'events', wanted .* 'counters'"):
        read_stream(counters, "counters")


def test_a_newer_format_names_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "events.arrows"
    metadata = {b"rankscope.content": b"events", b"rankscope.format_version": b"99"}
    with pa.OSFile(str(path), "wb") as sink:
        pa.ipc.new_stream(sink, EVENT_SCHEMA.with_metadata(metadata)).close()
    with pytest.raises(NewerFormat, match=r"format version 99.*pip install -U rankscope"):
        read_stream(path, "events")


@given(
    flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=8)
)
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_file_with_damaged_bytes_yields_an_error_of_ours_or_rows_that_can_be_read(
    tmp_path: Path, flips: list[tuple[int, int]]
) -> None:
    """Unchecked, a damaged dictionary index crashes the process that reads the row."""
    path = tmp_path / "events.arrows"
    if not path.exists():
        _write(path, [[f"n{number}" for number in range(20)], ["a"]])
    content = bytearray(path.read_bytes())
    for position, value in flips:
        content[position % len(content)] = value
    damaged = tmp_path / "damaged.arrows"
    damaged.write_bytes(bytes(content))
    with contextlib.suppress(TraceError):
        read = read_stream(damaged, "events")
        assert len(read.table.to_pylist()) <= 21
        assert isinstance(read.rank, int)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([field for field in EVENT_SCHEMA if field.name != "lane"], "column 'lane' is missing"),
        ([*EVENT_SCHEMA, pa.field("kind", pa.int64())], "column 'kind' is not one dictionary"),
        (
            [f if f.name != "start" else pa.field("start", pa.string()) for f in EVENT_SCHEMA],
            "column 'start' is not one int64",
        ),
    ],
)
def test_columns_that_are_not_those_of_the_format_are_named(
    tmp_path: Path, columns: list[pa.Field], message: str
) -> None:
    path = tmp_path / "events.arrows"
    schema = pa.schema(columns, metadata=file_metadata("events", run_id="r", rank=0))
    with pa.OSFile(str(path), "wb") as sink:
        pa.ipc.new_stream(sink, schema).close()
    with pytest.raises(DamagedTrace, match=message):
        read_stream(path, "events")


@pytest.mark.parametrize("missing", [1, 40, 400])
def test_a_batch_that_found_no_space_is_an_error_and_leaves_no_part(
    tmp_path: Path, missing: int
) -> None:
    """The system takes what fits and tells by a number; the file is as long as it was before."""
    whole, cut = _Writing(tmp_path / "whole"), _Writing(tmp_path / "cut")
    for writing in (whole, cut):
        writing.emit("first", 0)
        writing.flush()
    before = cut.path.stat().st_size
    for writing in (whole, cut):
        for number in range(100):
            writing.emit(f"name {number}", number)
    whole.flush()
    with _largest_file(whole.path.stat().st_size - missing), pytest.raises(OSError, match="large"):
        cut.flush()

    assert cut.path.stat().st_size == before
    cut.stream.close()
    read = read_stream(cut.path, "events")
    assert read.problem is None
    assert read.table["name"].to_pylist() == ["first"]


@contextlib.contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _all_alike(rows: int) -> pa.RecordBatch:
    """The most regular rows that a program can record: one event every 1,024 ns."""
    numbers = {"start": pa.array(range(0, 1024 * rows, 1024)), "duration": pa.array([7] * rows)}
    word = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["step"]))
    words = {"kind": word, "name": word, "lane": word}
    columns = numbers | words
    return pa.record_batch(
        [columns.get(field.name, pa.nulls(rows, field.type)) for field in EVENT_SCHEMA],
        schema=EVENT_SCHEMA,
    )


def test_no_recording_shrinks_as_far_as_a_file_may_unpack(tmp_path: Path) -> None:
    path = tmp_path / "events.arrows"
    stream = StreamWriter(path, EVENT_SCHEMA, "events", run_id="r1", rank=3)
    for _ in range(20):
        stream.write(_all_alike(50_000))
    stream.close()
    found = expansion(memoryview(path.read_bytes()))
    assert found.readable == path.stat().st_size
    assert found.unpacked > 64 << 20
    assert found.unpacked < found.allowed / 2
    read = read_stream(path, "events")
    assert (read.table.num_rows, read.problem, read.left_out) == (1_000_000, None, None)


def test_what_unpacks_is_counted_as_arrow_allocates_it(tmp_path: Path) -> None:
    """Columns of eight and of four bytes a row, bits for null, and dictionaries that grow."""
    path = tmp_path / "events.arrows"
    _write(path, [["a"] * 1000, ["b"] * 1000])
    found = expansion(memoryview(path.read_bytes()))
    eight = sum(field.type == pa.int64() for field in EVENT_SCHEMA)
    four = len(EVENT_SCHEMA) - eight
    assert found.unpacked >= 2000 * (8 * eight + 4 * four)
    assert found.unpacked < 2000 * (8 * eight + 4 * four) + 2000 * len(EVENT_SCHEMA) / 8 + 1000


def test_a_stream_that_is_no_arrow_stream_unpacks_to_nothing() -> None:
    for content in (b"", b"\xff\xff\xff\xff", b"\xff" * 64, bytes(64), b"text" * 20):
        found = expansion(memoryview(content))
        assert (found.readable, found.unpacked) == (len(content), 0)


def test_columns_come_in_the_order_of_the_format_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "events.arrows"
    table = pa.Table.from_batches([_all_alike(3)]).select(EVENT_SCHEMA.names[::-1])
    table = table.append_column("more", pa.array([1, 2, 3]))
    metadata = file_metadata("events", run_id="r", rank=0)
    with pa.ipc.new_stream(path, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))
    read = read_stream(path, "events").table
    assert read.schema.equals(EVENT_SCHEMA)
    assert read["start"].to_pylist() == [0, 1024, 2048]


def test_rows_that_lie_in_the_file_stay_when_its_pages_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns of a stream that is not compressed are not copied: they are read from it again."""
    path = tmp_path / "events.arrows"
    batch = _all_alike(1_000)
    metadata = file_metadata("events", run_id="r", rank=0)
    with pa.ipc.new_stream(path, EVENT_SCHEMA.with_metadata(metadata)) as writer:
        for low in range(0, 1_000, 100):
            writer.write_batch(batch.slice(low, 100))
    monkeypatch.setattr(streams, "_AT_ONCE", 200)
    pieces: list[int] = []

    def keep(rows: pa.Table) -> pa.Table:
        pieces.append(rows.num_rows)
        return rows

    read = read_stream(path, "events", keep=keep).table
    assert pieces == [200] * 5
    assert read["start"].to_pylist() == [1024 * row for row in range(1_000)]


@pytest.mark.parametrize("why", ["locked", "unknown here"])
def test_a_stream_is_read_where_its_pages_cannot_be_let_go(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locked pages stay, and not every system lets pages go."""
    if why == "locked":
        monkeypatch.setattr(mmap, "MADV_DONTNEED", -1)  # refused with the same error
    else:
        monkeypatch.delattr(mmap, "MADV_DONTNEED")
    path = tmp_path / "events.arrows"
    _write(path, [["a", "b"]])
    assert read_stream(path, "events").table["name"].to_pylist() == ["a", "b"]


def test_long_words_are_cut_and_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "events.arrows"
    _write(path, [["k" * 5000 + "a", "k" * 5000 + "b", "tab\there"]])
    first, second, third = read_stream(path, "events").table["name"].to_pylist()
    assert first != second
    assert first.startswith("k" * 2000 + "… (5,001 characters, ")
    assert third == r"tab\there"
