"""Rank files that are whole as Arrow streams and hold what no recorder would write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from hypothesis import strategies as st
from pyarrow import ipc

from tests.fuzz.damage import Damaged
from tracer.schema import EVENT_SCHEMA, events_file, file_metadata

_LIMITS: Final = {
    pa.int32(): (0, 1, 2, -1, 255, 256, 65_536, 2**31 - 1, -(2**31), None),
    pa.int64(): (
        *(0, 1, -1, 1000, 2**31, 2**40, 2**53, 2**62, -(2**62)),
        *(2**63 - 1, -(2**63), 2**63 - 1001, None),
    ),
}
_WORDS: Final = (
    *(None, "", "x", "forward", "backward", "step", "send", "recv", "wait", "collective", "all"),
    *("host:main", "device:0", "neither", "pp:0-2", "tp:0-1", "noColon", ":", "::", "other:0"),
    *(
        "all_reduce",
        "barrier",
        "\x1b[31mred\x07",
        "a\nb\tc\rd",
        "\0",
        "\u202eabc",
        "[/bold]",
        "</script>",
    ),
    *("float32", "é" * 2000, "word " * 200_000, "w" * 1_000_000),
)
_MANY: Final = 300

_Column = list[Any]


@st.composite
def hostile_values(draw: st.DrawFn, run: Mapping[str, bytes]) -> Damaged:
    """One or two rank files with some cells, whole columns or the columns themselves odd."""
    files, said = dict(run), []
    ranks = draw(st.sets(st.integers(0, 2), min_size=1, max_size=2))
    for rank in sorted(ranks):
        name = events_file(rank)
        columns = columns_of(run[name])
        for _ in range(draw(st.integers(0, 5))):
            said.append(f"{name}: {_change(draw, columns)}")
        content, how = _written(draw, columns, rank)
        files[name] = content
        said.append(f"{name}: {how}")
    return Damaged(files, tuple(said))


def columns_of(content: bytes) -> dict[str, _Column]:
    """The cells of a rank file by column."""
    table = ipc.open_stream(content).read_all()
    return {name: table[name].to_pylist() for name in table.column_names}


def _change(draw: st.DrawFn, columns: dict[str, _Column]) -> str:
    """Change some cells in place, or repeat or drop rows; say what."""
    rows = len(columns["start"])
    way = draw(st.sampled_from(["cell", "cell", "cell", "column", "repeat", "drop", "empty"]))
    field = draw(st.sampled_from(list(EVENT_SCHEMA)))
    column = columns[field.name]
    pool = _WORDS if pa.types.is_dictionary(field.type) else _LIMITS[field.type]
    value = draw(st.sampled_from(pool))
    said = repr(value)[:40]
    if way == "empty" or rows == 0:
        for name in columns:
            columns[name] = []
        return "no rows"
    at = draw(st.integers(0, rows - 1))
    if way == "cell":
        column[at] = value
        return f"{field.name}[{at}] = {said}"
    if way == "column":
        columns[field.name] = [value] * rows
        return f"{field.name} = {said}"
    times = draw(st.sampled_from([0, 2, _MANY])) if way == "repeat" else 0
    for name, values in columns.items():
        columns[name] = values[:at] + [values[at]] * times + values[at + 1 :]
    return f"row {at} {times} times"


def _written(draw: st.DrawFn, columns: dict[str, _Column], rank: int) -> tuple[bytes, str]:
    """The stream as bytes, its columns and batches cut in some way."""
    how = draw(st.sampled_from(["plain", "plain", "nulls in words", "order", "extra", "batches"]))
    codec = draw(st.sampled_from(["zstd", "lz4", None]))
    fields = [pa.field(f.name, f.type, nullable=draw(st.booleans())) for f in EVENT_SCHEMA]
    if how == "order":
        fields = draw(st.permutations(fields))
    arrays = [_array(columns[f.name], f.type, how == "nulls in words") for f in fields]
    if how == "extra":
        fields.append(pa.field("more", pa.list_(pa.int8())))
        arrays.append(pa.array([[1]] * len(columns["start"]), pa.list_(pa.int8())))
    metadata = file_metadata("events", run_id="toy", rank=rank)
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))
    size = 7 if how == "batches" else None
    return stream(table, size=size, codec=codec), f"{how}, {codec}"


def rank_file(columns: Mapping[str, _Column], rank: int) -> bytes:
    """The cells as the events of a rank."""
    arrays = [_array(columns[f.name], f.type, False) for f in EVENT_SCHEMA]
    metadata = file_metadata("events", run_id="toy", rank=rank)
    return stream(pa.Table.from_arrays(arrays, schema=EVENT_SCHEMA.with_metadata(metadata)))


def _array(values: Sequence[Any], type_: pa.DataType, null_word: bool) -> pa.Array:
    if not pa.types.is_dictionary(type_):
        return pa.array(values, type_)
    if not null_word:
        return pa.array(values, pa.string()).dictionary_encode().cast(type_)
    words = list(dict.fromkeys([None, *values]))
    places = pa.array([words.index(value) for value in values], pa.int32())
    return pa.DictionaryArray.from_arrays(places, pa.array(words, pa.string()))


def stream(table: pa.Table, *, size: int | None = None, codec: str | None = "zstd") -> bytes:
    """The table as an Arrow stream, in batches of at most `size` rows."""
    sink = pa.BufferOutputStream()
    options = ipc.IpcWriteOptions(compression=codec, unify_dictionaries=False)
    with ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=size)
    return bytes(sink.getvalue())
