"""Kineto events are the same whether they were cut into pieces and read many at a time, or parsed
one by one: for files as torch writes them, and for whatever else is valid JSON.
"""

from __future__ import annotations

import gzip
import json
import pickle
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collectors.importers import (
    chrome_json,
    event_layouts,
    kineto_columns,
    kineto_pieces,
)
from collectors.importers.chrome_json import ChromeTrace
from collectors.importers.event_layouts import Layouts
from collectors.importers.event_pieces import SEPARATOR, cut
from collectors.importers.growing_columns import Calls, Carried, Grown, Spans, Words
from collectors.importers.kineto_columns import NO_TIME, NONE, EventColumns, of_events
from collectors.importers.kineto_events import KinetoEvents, is_operation
from collectors.importers.kineto_pieces import PieceReader
from tests.test_repo.markdown import ROOT
from tracer.arrays import number_array, word_array
from tracer.errors import DamagedTrace

RECORDED = sorted((ROOT / "tests/data/kineto").rglob("*.json.gz"))


class _Reading:
    """Reads files in all ways, in stretches of so many bytes."""

    def __init__(self) -> None:
        self.in_pieces = 0
        self._reader = PieceReader()

    def columns(self, pieces: pa.StringArray) -> EventColumns | None:
        made = self._reader.columns(pieces)
        self.in_pieces += 0 if made is None else len(made)
        return made

    def both(self, path: Path, stretch: int = 500) -> tuple[Any, Any]:
        """In pieces, by layouts and by DuckDB, which find the same; and one by one."""
        with patch.multiple(chrome_json, _CHUNK=50, _STRETCH=stretch):
            with patch.object(event_layouts, "_OFTEN", 1):
                by_layout = self._read(path, PieceReader().columns)
            with (
                patch.object(event_layouts, "_OFTEN", 1 << 40),
                patch.object(kineto_pieces, "_FEW", 0),
            ):
                assert self._read(path, self.columns) == by_layout
            return by_layout, self._read(path, lambda pieces: None)

    def _read(
        self, path: Path, of_pieces: Callable[[pa.StringArray], EventColumns | None]
    ) -> dict[str, Any] | str:
        events = KinetoEvents()
        try:
            for columns in ChromeTrace(path).stretches(of_pieces, of_events):
                events.take(columns)
        except DamagedTrace as error:
            return str(error)
        return _content(events)


@pytest.fixture(scope="module")
def reading() -> _Reading:
    return _Reading()


def _content(events: KinetoEvents) -> dict[str, Any]:
    """All that was kept, as values that can be compared."""
    found = {}
    calls = zip(events.calls.external.tolist(), events.calls.said.tolist(), strict=True)
    called = {external for external, said in calls if is_operation(events.said[said])} - {NONE}
    for name, value in vars(events).items():
        if isinstance(value, (Spans, Calls, Carried)):
            rows = {column: getattr(value, column).tolist() for column in value.__slots__}
            if "said" in rows:
                rows["said"] = [_meaning(events.said[number]) for number in rows["said"]]
            if isinstance(value, Carried):  # whether a call said it before is by the stretches
                rows["said"] = [
                    None if external in called else said
                    for external, said in zip(rows["external"], rows["said"], strict=True)
                ]
            value = rows
        elif isinstance(value, Words):
            value = value.words
        elif isinstance(value, array):
            value = value.tolist()
        elif name == "left_out":
            value = sorted(value.items())
        found[name] = repr(value)  # NaN in arguments is equal to itself
    for name in ("said", "_texts", "_are_operations", "_operations"):
        del found[name]  # by how they were written
    return found


def _meaning(event: Any) -> Any:
    """Without the numbers that were taken out, whose keys are empty."""
    if isinstance(event, list):
        return list(map(_meaning, event))
    if isinstance(event, dict):
        return {key: _meaning(value) for key, value in event.items() if key}
    return event


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recorded_files_are_read_in_pieces(path: Path, tmp_path: Path, reading: _Reading) -> None:
    plain = tmp_path / "rank0.json"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    reading.in_pieces = 0
    in_pieces, one_by_one = reading.both(plain, 20_000)
    assert in_pieces == one_by_one
    listed = len(json.loads(plain.read_text())["traceEvents"])
    assert reading.in_pieces > 0.8 * listed


ODD_NUMBERS: list[Any] = [
    *(0, 1, 7, 12.5, 1e3, -1, True, None, "12", "-3", "--3", " 4", "1.5", "x", "", 3.0, False),
    *(1e300, float("nan"), float("inf"), 2**53, 2**53 - 1, 2**62, 2**63, 2**64, 10**30, -5),
    *(1_790_000_000_000_123, 1_790_000_000_000_123.25, 9_007_199_254_741.0, -(2**70)),
    *(9_007_199_254_743, [], [1], {}, {"ts": 5}, "Spans", "\u0661\u0662", -(2**53), 0.0005),
]
ODD_WORDS: list[Any] = [
    *("X", "M", "i", "cpu_op", "KERNEL", "gpu_memcpy", "user_annotation", "cuda_runtime"),
    *("ProfilerStep#3", "gloo:x", "c10d::send", "nccl", "record_param_comms", "[memory]"),
    *("thread_name", 'a "ts": 1', "},{", ', {"ph"', "é\u2028", "\ud800", "\\", "\n", ""),
    *("n" * 400, None, 3, True, [], {}, {"name": 1}, "inf", ", }"),
]
GOOD = {
    "ph": "X", "cat": "kernel", "name": "n", "pid": 0, "tid": 7, "ts": 3.5, "dur": 2,
    "args": {"External id": 5, "stream": 7, "device": 1, "correlation": 3},
}  # fmt: skip
ODD: dict[str, list[Any]] = {
    **dict.fromkeys(("pid", "tid", "ts", "dur"), ODD_NUMBERS),
    **dict.fromkeys(("cat", "name"), ODD_WORDS),
    "args": [None, [], 3, "x", {}, {"a": [[1, {"b": {}}]] * 50}],
    **dict.fromkeys(("args.External id", "args.correlation"), ODD_NUMBERS),
    **dict.fromkeys(("args.stream", "args.device", "args.Seq"), ODD_NUMBERS),
    "args.Collective name": ODD_WORDS,
    "args.name": ["x", '"', {"ph": 1}],
}


@pytest.mark.parametrize("key", ODD)
@pytest.mark.parametrize("category", ["kernel", "cpu_op", "user_annotation", "Cuda_Runtime"])
def test_each_odd_value_between_usual_events(
    tmp_path: Path, reading: _Reading, key: str, category: str
) -> None:
    events: list[Any] = []
    for value in ODD[key]:
        odd = json.loads(json.dumps(GOOD | {"cat": category}))
        (odd["args"] if "." in key else odd)[key.removeprefix("args.")] = value
        without = json.loads(json.dumps(GOOD | {"cat": category}))
        (without["args"] if "." in key else without).pop(key.removeprefix("args."), None)
        events += [GOOD | {"cat": category}, odd, without]
    path = tmp_path / "rank0.json"
    path.write_text(json.dumps({"traceEvents": [*events, GOOD]}))
    reading.in_pieces = 0
    in_pieces, one_by_one = reading.both(path, 1_000)
    assert in_pieces == one_by_one
    assert reading.in_pieces > len(events) - 10


@pytest.mark.parametrize(
    "repeated",
    ['"ts": 4', '"name": "m"', '"args": {}', '"tid": 3', '"cat": "cpu_op"', '"dur" :1', '"ph": 3'],
)
def test_of_equal_keys_the_last_counts(tmp_path: Path, reading: _Reading, repeated: str) -> None:
    usual = json.dumps(GOOD)
    odd = [usual[:-1] + f", {repeated}}}", usual.replace('{"External id"', '{"stream": 9, "x"')]
    path = tmp_path / "rank0.json"
    path.write_text('{"traceEvents": [' + ", ".join([usual, *odd] * 9) + "]}")
    reading.in_pieces = 0
    in_pieces, one_by_one = reading.both(path, 1_000)
    assert in_pieces == one_by_one
    assert reading.in_pieces > 20


@pytest.mark.parametrize(("us", "is_coarse"), [(1_790_000_000_000_123, False), (1.79e15, True)])
def test_whole_times_since_1970_keep_their_nanoseconds(
    tmp_path: Path, reading: _Reading, us: float, is_coarse: bool
) -> None:
    path = tmp_path / "rank0.json"
    path.write_text(json.dumps({"traceEvents": [GOOD | {"ts": us}] * 20}))
    in_pieces, one_by_one = reading.both(path, 1_000)
    assert in_pieces == one_by_one
    assert in_pieces["is_coarse"] == repr(is_coarse)


WRITTEN = [
    *("0", "7", "-0", "-1", "-2", "-10", "7.6", "-7.6", "7.0", "-0.0", "31e5", "3E+2", "1e-2"),
    *('"12"', '"-0"', '"1.5"', '"x"', "true", "null", "[1]", '{"Seq": 1}', '7, "KEY": 9'),
]


@pytest.mark.parametrize("key", ["tid", *kineto_columns.ARGUMENTS.values()])
@pytest.mark.parametrize("often", [1, 1 << 40], ids=["layouts", "DuckDB"])
def test_a_whole_number_is_that_of_the_parser_however_it_is_written(key: str, often: int) -> None:
    """Columns are compared, since of some only what a few events say is kept."""
    event = '{"ph": "X", "KEY": NUMBER}' if key == "tid" else '{"ph": "X", "args": {"KEY": NUMBER}}'
    texts = [event.replace("NUMBER", number).replace("KEY", key) for number in WRITTEN]
    with patch.object(event_layouts, "_OFTEN", often), patch.object(kineto_pieces, "_FEW", 0):
        columns = PieceReader().columns(word_array([*texts, " " * 16])[: len(texts)])
    expected = of_events([json.loads(text) for text in texts])
    assert columns is not None
    for name in ("thread", *kineto_columns.ARGUMENTS):
        assert getattr(columns, name).tolist() == getattr(expected, name).tolist()


def test_alike_events_are_read_by_their_layout() -> None:
    event = '{"ph": "X", "cat": "Kernel", "name": "gemm%s", "ts": %s, "args": {"stream": %s}}'
    values = [("128", "904.25", "7"), ("256", "917.05", "9"), ("110", "1234567890123.456", "3")]
    values += [("111", "5967132958683.219", "0"), ("112", "917.05", "007"), ("9", "917.05", "1e3")]
    pieces = word_array([event % value for value in values for _ in range(4)])
    has_layout, columns = Layouts().columns(pieces)
    assert has_layout[::4].tolist() == [True, True, True, True, False, False]  # 007 is no JSON
    assert columns is not None
    assert columns.name[::4].to_pylist() == ["gemm128", "gemm256", "gemm110", "gemm111"]
    assert columns.category[::4].to_pylist() == ["kernel"] * 4
    assert columns.start[::4].tolist() == [904_250, 917_050, 1234567890123456, 5967132958683219]
    assert columns.stream[::4].tolist() == [7, 9, 3, 0]
    assert set(columns.duration.tolist()) == {NO_TIME}
    assert set(columns.thread.tolist()) == {NONE}
    rows = np.array([0, 4, 12])
    assert columns.json(rows).to_pylist() == [event % value for value in (*values[:2], values[3])]


LENGTHS = st.integers(1, 13).flatmap(lambda digits: st.integers(0, 10**digits - 1))


@given(st.lists(st.tuples(LENGTHS, st.integers(1, 9), LENGTHS, LENGTHS), min_size=1, max_size=9))
@example([(999_999_999_999, 3, 999, 1), (9_351_221_616_419, 3, 167, 10), (0, 9, 5, 12_345_678)])
def test_numbers_of_other_lengths_have_a_layout_at_once(
    found: list[tuple[int, int, int, int]],
) -> None:
    """Where many alike events were met before; times are those of Python's parser."""
    text = '{"ph": "X", "name": "%s gemm%s", "ts": %s.%s, "tid": %s, "args": {"Seq": %s}}'
    pieces = word_array(
        [
            text % (seq, after, whole, f"{after:0>{digits}}"[-digits:], after, seq)
            for whole, digits, after, seq in [(1, 2, 3, 4)] * 40 + found
        ]
        + [text % (0, 0, 0, 0, 0, 0)]
    )
    expected = of_events([json.loads(piece) for piece in pieces.to_pylist()])
    has_layout, columns = Layouts().columns(pieces)
    assert has_layout[40:-1].tolist() == [digits <= 8 for _, digits, *_ in found]
    assert columns is not None
    rows = np.flatnonzero(has_layout)
    assert columns.name.to_pylist() == expected.name.take(number_array(rows)).to_pylist()
    for name in ("start", "duration", "is_coarse", "thread", "seq", "external"):
        assert getattr(columns, name).tolist() == getattr(expected, name)[rows].tolist()


NUMBERS = st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(0, 1 << 40), st.floats(0, 1e6))
WORDS = st.one_of(st.sampled_from(ODD_WORDS), st.text(max_size=8))
ARGUMENTS = st.one_of(
    st.dictionaries(
        st.sampled_from(
            [
                *("External id", "correlation", "device", "stream", "Device Type", "Seq", "x", ""),
                *("Total Allocated", "Collective name", "name", "ts", "ph"),
            ]
        ),
        st.one_of(NUMBERS, WORDS),
        max_size=5,
    ),
    st.sampled_from([None, [], 3, "x", {"a": [{"ph": 1}, {"ph": 2}]}]),
)
EVENTS = st.one_of(
    st.fixed_dictionaries(
        {"ph": st.just("X")},
        optional={
            "cat": st.sampled_from(["kernel", "cpu_op", "user_annotation", "cuda_runtime", "x"]),
            "name": WORDS,
            "pid": NUMBERS,
            "tid": NUMBERS,
            "ts": st.floats(0, 1e9),
            "dur": st.floats(0, 1e3),
            "args": ARGUMENTS,
        },
    ),
    st.fixed_dictionaries(
        {"ph": WORDS, "cat": WORDS, "name": WORDS, "ts": NUMBERS, "dur": NUMBERS},
        optional={"tid": NUMBERS, "args": ARGUMENTS, "more": ARGUMENTS},
    ),
)
BETWEEN = st.one_of(st.just([]), st.just([]), st.just([{"name": "n", "ph": "X"}, 3, None, [{}]]))
HOW = st.fixed_dictionaries(
    {"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, None, 0, 2])},
    optional={"separators": st.just((",", ":"))},
)
REPLACED = st.sampled_from(
    [
        *((b"", b""), (b'"dur":', b'"ts":'), (b'"stream"', b'"device"'), (b'"ph"', b'"p\\u0068"')),
        *((b"}", b",}"), (b"NaN", b"nan"), (b'"tid": 7', b'"tid": 07'), (b"}, {", b"} {")),
        *((b"x", b"\xff"), (b'"x"', b'"x'), (b'"args"', b'"args":{},"args"')),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, min_size=3, max_size=30), BETWEEN, HOW, REPLACED, st.integers(100, 3_000))
def test_odd_files_are_the_same_in_both_ways(
    tmp_path_factory: pytest.TempPathFactory,
    reading: _Reading,
    events: list[Any],
    others: list[Any],
    how: dict[str, Any],
    replaced: tuple[bytes, bytes],
    stretch: int,
) -> None:
    """Valid JSON, and with some bytes replaced by others, also what is refused."""
    events = events[:20] + others + events[20:]
    text = json.dumps({"traceEvents": events, "traceName": [{"ph": 1}, {"ph": 2}]}, **how)
    content = text.encode(errors="surrogatepass").replace(*replaced, 1 + stretch % 2)
    path = tmp_path_factory.mktemp("odd") / "rank0.json"
    path.write_bytes(content)
    in_pieces, one_by_one = reading.both(path, stretch)
    assert in_pieces == one_by_one


@given(st.lists(st.text('ab,{}" \\\n:é'), min_size=1, max_size=20), st.integers(0, 3))
@example(['x,\n{"ph"', "b"], 0)
def test_pieces_are_the_objects_that_were_written(words: list[str], indent: int) -> None:
    objects = [{"ph": word, "args": {"ph": word}} for word in [*words, "last"]]
    text = ("," + " " * indent).join(map(json.dumps, objects))
    found = SEPARATOR.match(text, len(json.dumps(objects[0])))
    assert found is not None
    content = bytearray(text.encode())
    pieces = cut(memoryview(content), found[1].encode())
    assert pieces is not None
    assert [json.loads(piece) for piece in pieces.texts.to_pylist()] == objects[:-1]
    assert json.loads(content[pieces.end :]) == objects[-1]
    pieces.put_together()
    assert content == text.encode()


def test_no_piece_is_lost_where_bytes_are_no_text() -> None:
    content = bytearray(b'{"a":"\xff"},{"a":1},{"a":2},{"a":3}')
    pieces = cut(memoryview(content), b',{"a"')
    assert pieces is not None
    assert pieces.texts.to_pylist() == ['{"a":"\ufffd"} ', '{"a":1} ', '{"a":2} ']
    assert content[pieces.end :] == b'{"a":3}'


WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 300)


@given(st.lists(st.lists(WHOLE, min_size=1), max_size=4))
@example([[-(2**63), 2**63 - 1], [-1]])
def test_a_column_that_grows_holds_what_was_added(parts: list[list[int]]) -> None:
    column = Grown()
    for part in parts:
        column.add(np.array(part, np.int64))
    expected = [value for part in parts for value in part]
    assert pickle.loads(pickle.dumps(column)).tolist() == column.tolist() == expected
    assert len(column) == len(expected)


def test_layouts_are_forgotten_where_they_are_many(tmp_path: Path, reading: _Reading) -> None:
    names = [letter * times for times in (1, 2, 3) for letter in "abcdefghijklmnopqrstuvwxyz"]
    events = [GOOD | {"name": name, "ts": ts} for ts, name in enumerate(names * 4)]
    path = tmp_path / "rank0.json"
    path.write_text(json.dumps({"traceEvents": events}))
    expected = reading.both(path, 3_000)
    assert expected[0] == expected[1]
    with patch.object(event_layouts, "_MOST", 5):
        assert reading.both(path, 3_000) == expected
