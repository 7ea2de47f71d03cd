"""Whatever a Kineto file holds: a run, or one clear line that names the file, and no half run."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.importers.formats import files_of, format_named, import_files
from tests.fuzz.using import use_all
from tests.test_repo.markdown import ROOT
from tracer.errors import DamagedTrace, TraceError

RECORDED = ROOT / "tests/data/kineto/ddp2/rank0.json.gz"
KINETO = format_named("kineto")


def _import(source: Path, out: Path) -> None:
    import_files(KINETO, files_of(KINETO, [source]), out)


HEAD = b'{"traceEvents": ['
EVENT = b'{"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":1,"dur":2,"args":{}}'

HOSTILE = {
    "empty": b"",
    "no JSON": b"hello",
    "cut off": HEAD + EVENT + b",",
    "cut off in a word": HEAD + EVENT[:30],
    "no events": b'{"schemaVersion": 1}',
    "no list": b'{"traceEvents": {"a": 1}}',
    "a number": b"17",
    "broken inside": HEAD + EVENT + b", {]}",
    "nested deep": HEAD + b'{"args":' * 100_000,
    "lists deep": HEAD + b"[" * 3_000_000,
    "a long number": HEAD + b'{"ts": ' + b"9" * 10_000 + b"}]}",
    "not text": HEAD + b"\xff\xfe\x00" * 50,
    "truncated gzip": gzip.compress(HEAD + EVENT * 100)[:-20],
    "no gzip": b"\x1f\x8b" + b"x" * 50,
    "a bomb": gzip.compress(HEAD + b" " * 40_000_000 + b"]}", 9),
    "a bomb of a string": gzip.compress(HEAD + b'{"name": "' + b"a" * 40_000_000, 9),
    "a bomb of events": gzip.compress(HEAD + (EVENT + b",") * 300_000 + EVENT + b"]}", 9),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused_in_words(tmp_path: Path, what: str) -> None:
    path = tmp_path / "rank0.json"
    path.write_bytes(HOSTILE[what])
    with pytest.raises(DamagedTrace, match=r"rank0\.json: not a whole JSON trace") as caught:
        import_files(KINETO, [path], tmp_path / "run")
    assert len(str(caught.value)) < 1_000
    assert [p.name for p in tmp_path.iterdir()] == ["rank0.json"]


def test_a_file_of_a_directory_that_was_cut_off_is_named_and_not_passed_over(
    tmp_path: Path,
) -> None:
    """A copy that did not finish: else its rank is missing without a word."""
    whole = RECORDED.read_bytes()
    (tmp_path / "rank0.json.gz").write_bytes(whole)
    (tmp_path / "rank1.json.gz").write_bytes(whole[: len(whole) // 2])
    files = files_of(KINETO, [tmp_path])
    assert [path.name for path in files] == ["rank0.json.gz", "rank1.json.gz"]
    with pytest.raises(DamagedTrace, match=r"rank1\.json\.gz: not a whole JSON trace"):
        import_files(KINETO, files, tmp_path / "run")
    (tmp_path / "rank1.json.gz").write_bytes(gzip.compress(HEAD + EVENT * 100)[:-20])
    assert len(files_of(KINETO, [tmp_path])) == 2, "less than a first part was packed"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damage_anywhere_in_a_recorded_trace(data: st.DataObject) -> None:
    """Cut off, overwritten or repeated at any place, plain or packed: a run, or one clear line."""
    content = bytearray(gzip.decompress((RECORDED).read_bytes())[:60_000])
    content += b'{"ph": "i"}]}' if data.draw(st.booleans()) else b""
    packed = data.draw(st.booleans())
    if packed:
        content = bytearray(gzip.compress(bytes(content), 1))
    at = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.sampled_from([b"", b"\x00", b"[", b"{", b'"', b"}", b"9" * 400, b"\xff"]))
    content[at : at + data.draw(st.sampled_from([0, 1, 3000]))] = noise
    with tempfile.TemporaryDirectory() as directory:
        path, out = Path(directory) / "rank0.json", Path(directory) / "run"
        path.write_bytes(content)
        try:
            _import(path, out)
            said = ""
        except TraceError as error:
            said = str(error)
        assert said == "" or str(path) in said
        assert out.exists() == (said == "")


ODD = {
    "ph": [None, 3, "M", "i", "X"],
    "cat": [None, 3, "cpu_op", "user_annotation", "kernel", "cuda_runtime", "", "x" * 300],
    "name": [None, 3, "", "ProfilerStep#2", "PP:0F0", "c10d::send", "record_param_comms", "\x1b["],
    "ts": [None, "1", True, -5, 1e17, 1e300, float("nan"), 10**30, 2**62],
    "dur": [None, -1, 1e17, 1e300, "x", 10**30],
    "pid": [None, "Spans", 10**30],
    "tid": [None, "Trace", -1, 10**30],
    "args": [
        None, [], "x", {"correlation": 10**30}, {"stream": "x", "device": None},
        {"Collective name": 3}, {"Collective name": "allreduce", "Process Group Ranks": 7},
        {"Collective name": "send", "Dst Rank": 10**20, "Group size": "many", "dtype": []},
        {"Collective name": "all_gather", "Process Group Ranks": "[0, 0]", "Group size": 2},
    ],
}  # fmt: skip


def test_odd_values_in_events_are_left_out_or_refused(tmp_path: Path) -> None:
    """Each odd value in turn, in an event that is otherwise right, of each category."""
    good = {"ph": "X", "name": "n", "pid": 0, "tid": 7, "ts": 3.5, "dur": 2, "args": {"stream": 7}}
    for category in ("kernel", "cpu_op", "user_annotation", "cuda_runtime"):
        events = [
            good | {"cat": category} | {key: value}
            for key, values in ODD.items()
            for value in values
        ]
        path = tmp_path / f"{category}.json"
        path.write_text(json.dumps({"traceEvents": events, "distributedInfo": 3}))
        _import(path, tmp_path / category)
        assert use_all(tmp_path / category, pages=False) == "used"
