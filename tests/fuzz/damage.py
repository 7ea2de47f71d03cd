"""Ways to damage a run: its files as bytes in, other bytes out, and a line that says what was done.

Nothing here touches a disk, so that hypothesis can shrink an example to the one change that
matters. values.py makes files that are whole and hold what no recorder would write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from hypothesis import strategies as st

from tests.support.pipeline_toy import write_pipeline
from tracer.schema import CLOCK_SCHEMA, COUNTER_SCHEMA, clock_file, counters_file
from tracer.streams import StreamWriter

Files = dict[str, bytes]
"""The files of a run by name."""


@dataclass(frozen=True)
class Damaged:
    """A run with some damage done, and the lines that say which."""

    files: Files = field(repr=False)
    said: tuple[str, ...]

    def write(self, path: Path) -> Path:
        """Write the files into a new directory."""
        path.mkdir()
        for name, content in self.files.items():
            (path / name).write_bytes(content)
        return path


def small_run(path: Path) -> Files:
    """A run of three ranks, two steps and every kind of file, written below `path` and read."""
    run = write_pipeline(path / "run", steps=2)
    for rank in range(3):
        names = pa.array(["memory.allocated/bytes", "loss"]).dictionary_encode()
        counters = [pa.array([1, 2]), names, pa.array([1.0, float("nan")])]
        source = pa.array(["rank:0", "rank:0"]).dictionary_encode()
        clock = [pa.array([1, 2]), source, pa.array([5, 6]), pa.array([1, 1])]
        for file, schema, content, arrays in (
            (counters_file(rank), COUNTER_SCHEMA, "counters", counters),
            (clock_file(rank), CLOCK_SCHEMA, "clock", clock),
        ):
            stream = StreamWriter(run / file, schema, content, run_id="toy", rank=rank)
            stream.write(pa.record_batch(arrays, schema=schema))
            stream.close()
    for file, more in (("run.json", _MORE_OF_THE_RUN), ("rank-00001.json", {"unseen": 0})):
        (run / file).write_text(json.dumps(json.loads((run / file).read_text()) | more))
    return read_files(run)


_MORE_OF_THE_RUN: Final = {
    "config": {"argv": ["train.py", "--lr", "0.1"], "depth": {"layers": 4}},
    "versions": {"torch": "2.13.0", "python": "3.11"},
    "link_peaks": {"pp": 100.0, "tp": 450},
}


def read_files(run: Path) -> Files:
    """The bytes of every file of a run directory."""
    return {path.name: path.read_bytes() for path in sorted(run.iterdir())}


@st.composite
def damaged_bytes(draw: st.DrawFn, run: Mapping[str, bytes]) -> Damaged:
    """One to four changes of single files, none of which knows what the bytes mean."""
    files, said = dict(run), []
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(sorted(files)))
        way = draw(st.sampled_from(sorted(_WAYS)))
        if not files[name] and way != "inserted":
            continue
        files[name], what = _WAYS[way](draw, files[name])
        said.append(f"{name}: {way} {what}")
    return Damaged(files, tuple(said))


@st.composite
def exchanged_files(draw: st.DrawFn, run: Mapping[str, bytes]) -> Damaged:
    """Files under the name of another, removed, or given a name that is odd."""
    files, said = dict(run), []
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(files)))
        other = draw(st.one_of(st.sampled_from(sorted(files)), st.sampled_from(_ODD_NAMES)))
        way = draw(st.sampled_from(["exchanged", "copied", "removed"]))
        if way == "removed" and len(files) > 1:
            del files[name]
        elif way == "exchanged" and other in files:
            files[name], files[other] = files[other], files[name]
        else:
            files[other] = files[name]
        said.append(f"{name} {way} ({other})")
    return Damaged(files, tuple(said))


@st.composite
def damaged_json(draw: st.DrawFn, run: Mapping[str, bytes]) -> Damaged:
    """One to three values of the JSON files replaced by odd ones, left out, or named otherwise."""
    files, said = dict(run), []
    by_file: dict[str, Any] = {}
    odd: dict[str, str] = {}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(n for n in files if n.endswith(".json"))))
        content = by_file.setdefault(name, json.loads(files[name]))
        place = _place(draw, content)
        text = draw(st.sampled_from(ODD_JSON) if draw(st.integers(0, 3)) else _ANY_JSON)
        mark = f"@{len(odd)}@"
        odd[mark] = text
        by_file[name] = _replaced(content, place, mark, draw(st.booleans()))
        said.append(f"{name}: {'.'.join(map(str, place)) or 'all'} = {text[:60]}")
    for name, content in by_file.items():
        text = json.dumps(content)
        for mark, value in odd.items():
            text = text.replace(f'"{mark}"', value)
        files[name] = text.encode()
    return Damaged(files, tuple(said))


_DEEP: Final = 100_000
"""Deeper than any recursion that Python or C allows."""
_SHALLOW: Final = 700
"""Deep enough to overflow somewhere later if reading allows it."""

ODD_JSON: Final = (
    *("null", "true", "false", "0", "-1", "1", "2", "1.5", "-0.0", "1e308", "1e999", "-1e999"),
    *("NaN", "Infinity", "-Infinity", "1000000000", "-1000000000", "2147483648"),
    *("9223372036854775807", "9223372036854775808", "1" + "0" * 400, "9" * 5000),
    *('""', '"x"', '"4"', '"1e5"', '"\\u0000"', '"\\u001b[31mred\\u0007"', '"a\\nb\\rc\\td"'),
    *('"\\ud800"', '"\\udc80\\ud800"', '"\\u202eabc"', '"<script>alert(1)</script>"'),
    *('"[bold]x[/nothing]"', '"../../../etc/passwd"', '"' + "long " * 200_000 + '"'),
    *("[]", "{}", "[null]", "[[]]", "[0, 1, 2]", '["a", "b"]', '[["a", 1], [2, "b"]]', "[-1]"),
    *('{"a": 1}', '{"": null}', '{"pp": -1}', '{"-1": [0]}', '{"99999999999999999999": ["0F0"]}'),
    *('{"0": ["0F0", "0F0", "9999999999F0"]}', '{"\\ud800": 1}', '{"a": 1, "a": 2}', "[1e999]"),
    "[" + ", ".join(["0"] * 20_000) + "]",
    "[" * _DEEP + "]" * _DEEP,
    '{"a":' * _SHALLOW + "1" + "}" * _SHALLOW,
    "[" * _SHALLOW + "]" * _SHALLOW,
    "",
    "}{",
)
"""JSON values as text: what Python's parser takes (it takes NaN) and what it does not."""

_ANY_JSON: Final = st.floats().map(json.dumps) | st.text(max_size=40).map(json.dumps)

_ODD_NAMES: Final = (
    "rank-99999.arrows",
    "rank-2147483648.arrows",
    "rank-99999999999999999999999999.arrows",
    "rank-00000.arrows.tmp",
    "rank--0001.arrows",
    "rank-٠٠٠٠٣.arrows",
    "rank-000000.arrows",
)


def _flipped(draw: st.DrawFn, content: bytes) -> tuple[bytes, str]:
    at = draw(st.integers(0, len(content) - 1))
    bit = draw(st.integers(0, 7))
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :], f"bit {at}.{bit}"


def _set(draw: st.DrawFn, content: bytes) -> tuple[bytes, str]:
    """Four or eight aligned bytes become a number that is often a limit."""
    width = draw(st.sampled_from([4, 8]))
    at = draw(st.integers(0, max(len(content) // width - 1, 0))) * width
    value = draw(st.sampled_from([0, 1, 0x7F, -1, 1 << 16, 1 << 30, (1 << 31) - 1, -(1 << 31)]))
    new = value.to_bytes(width, "little", signed=True)
    return content[:at] + new + content[at + width :], f"{value} at {at}, {width} bytes"


def _truncated(draw: st.DrawFn, content: bytes) -> tuple[bytes, str]:
    keep = draw(st.integers(0, len(content) - 1))
    return content[:keep], f"to {keep} of {len(content)}"


def _inserted(draw: st.DrawFn, content: bytes) -> tuple[bytes, str]:
    at = draw(st.integers(0, len(content)))
    block = draw(st.one_of(st.binary(min_size=1, max_size=64), st.just(b"\0" * 4096)))
    return content[:at] + block + content[at:], f"{len(block)} bytes at {at}"


def _removed(draw: st.DrawFn, content: bytes) -> tuple[bytes, str]:
    at, length = draw(st.integers(0, len(content) - 1)), draw(st.integers(1, 512))
    return content[:at] + content[at + length :], f"{length} bytes at {at}"


def _swapped(draw: st.DrawFn, content: bytes) -> tuple[bytes, str]:
    """Two blocks of the same length change places; at 8 bytes they may be whole numbers."""
    size = draw(st.sampled_from([8, 64, 512]))
    a, b = sorted(draw(st.integers(0, len(content) // size)) * size for _ in "ab")
    if b < a + size:
        return content, f"nothing, {size}"
    first, second = content[a : a + size], content[b : b + size]
    middle = content[a + size : b]
    return content[:a] + second + middle + first + content[b + size :], f"{size} at {a} and {b}"


_WAYS: Final[dict[str, Callable[[st.DrawFn, bytes], tuple[bytes, str]]]] = {
    "flipped": _flipped,
    "set": _set,
    "truncated": _truncated,
    "inserted": _inserted,
    "removed": _removed,
    "swapped": _swapped,
}

_Place = tuple[str | int, ...]


def _place(draw: st.DrawFn, content: Any) -> _Place:
    """The path of a value: the field is drawn first, so that long lists are not drawn most."""
    place: _Place = ()
    while isinstance(content, (dict, list)) and content and draw(st.integers(0, 3)):
        keys = sorted(content) if isinstance(content, dict) else range(len(content))
        key = draw(st.sampled_from(keys))
        place, content = (*place, key), content[key]
    return place


def _replaced(content: Any, place: _Place, mark: str, as_key: bool) -> Any:
    """`content` with `mark` instead of the value at `place`, or of its key in an object."""
    if not place:
        return mark
    first, *rest = place
    if isinstance(content, dict):
        if rest or not as_key:
            return content | {first: _replaced(content[first], tuple(rest), mark, as_key)}
        return {mark if key == first else key: value for key, value in content.items()}
    changed = list(content)
    changed[int(first)] = _replaced(content[int(first)], tuple(rest), mark, as_key)
    return changed
