"""Scalars of experiment trackers, read back by their own readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.whole_run.step_metrics import step_metrics
from dashboard.export.formats import export
from tests.test_repo.markdown import ROOT
from tracer.errors import UsageError

RUN = open_run(ROOT / "sample_traces" / "pp2-tp2-1f1b")


def test_tensorboard_reads_the_numbers_of_each_step(tmp_path: Path) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    export(RUN, "tensorboard", tmp_path / "log", steps=[3, 4, 5], ranks=[1])
    events = loading.EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"time_seconds/compute", "busbw_bytes_per_second/tp:0-1/all_reduce"} <= tags
    assert [tag for tag in tags if tag.startswith("work")] == ["work_seconds/1"]
    wanted = {
        row["step"]: row["value"]
        for row in step_metrics(RUN, [3, 4, 5]).table.to_pylist()
        if row["metric"] == "step_time_seconds"
    }
    found = events.Tensors("step_time_seconds")
    values = {event.step: event.tensor_proto.float_val[0] for event in found}
    assert values == pytest.approx(wanted)
    # The recording began on 2026-11-23 at 14:44:13 UTC.
    begun = [event.wall_time - 1_795_445_053 for event in found]
    assert 0 < begun[0] < begun[1] < begun[2] < 60


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Of a LevelDB log, whose blocks W&B counts from the start of the file, 7 bytes before `data`:
    each piece has a checksum (4 bytes), a length (2) and whether it is whole (1), first (2), middle
    (3) or last (4).
    """
    at, held = 0, b""
    while at + 7 <= len(data):
        left = 32_768 - (at + 7) % 32_768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        held += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield held
            held = b""


def test_wandb_is_written_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    export(RUN, "wandb", tmp_path / "log", steps=[3, 4])
    (file,) = (tmp_path / "log" / "wandb").glob("offline-run-*/*.wandb")
    steps: dict[int, float] = {}
    for data in leveldb_records(file.read_bytes()[7:]):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            said = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            steps[record.history.step.num] = json.loads(said["step_time_seconds"])
    times = step_metrics(RUN, [3, 4]).table.to_pylist()
    assert steps == pytest.approx(
        {row["step"]: row["value"] for row in times if row["metric"] == "step_time_seconds"}
    )


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "mine").touch()
    with pytest.raises(UsageError, match="exists already"):
        export(RUN, "tensorboard", tmp_path / "log")
