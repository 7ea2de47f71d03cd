"""What a parser gives becomes a run, whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from collectors.importers.imported_run import ImportedRun, imported_run
from dashboard import open_run
from tests.support.toy import Event, write_run
from tracer.errors import DamagedTrace, TraceError, UsageError

EPOCH = 1_790_000_000_000_000_000
"""A wall clock's time in ns: larger than what the format holds."""


def _fill(run: ImportedRun) -> None:
    run.world_size = 2
    run.versions["torch"] = "2.13.0"
    run.lacks("no clock of the host")
    run.lacks("no clock of the host")
    for rank in (0, 1):
        mine = run.rank(rank, host="a", clock="a", device="cuda:0")
        group = mine.topology.group([0, 1], "mesh_tp").name
        mine.add(
            start=EPOCH + rank, duration=90, kind="step", name="step", lane="host:main", step=0
        )
        mine.write(
            {
                "start": np.array([EPOCH + 10, EPOCH + 20]),
                "duration": [3, 4],
                "kind": ["collective", "kernel"],
                "name": pa.array(["all_reduce", "gemm"]).dictionary_encode(),
                "lane": ["device:7", "device:7 kernels"],
                "step": [0, 0],
                "group": [group, None],
                "seq": [0, None],
                "bytes": [4096, None],
            }
        )
        mine.count(EPOCH + 5, "memory.allocated/bytes", 17.0)


def test_a_run_of_two_ranks(tmp_path: Path) -> None:
    with imported_run(tmp_path / "a", format="toy") as run:
        _fill(run)

    read = open_run(tmp_path / "a")
    assert read.problems == ()
    assert read.meta.source is not None
    assert read.meta.source.format == "toy"
    assert read.meta.source.lacks == ("no clock of the host",)
    assert read.meta.source.epoch_ns == EPOCH
    assert read.meta.versions["torch"] == "2.13.0"
    assert (read.meta.world_size, read.ranks, read.steps) == (2, (0, 1), (0,))
    assert read.clock.method == "one clock"
    assert read.meta.mesh is not None
    assert (read.meta.mesh.names, read.meta.mesh.shape) == (("tp",), (2,))
    assert read.facts[1].coordinates == {"tp": 1}
    rows = read.events(ranks=[1], columns=("start", "duration", "kind", "name", "group", "bytes"))
    assert rows.to_pylist() == [
        {"rank": 1, "start": 1, "duration": 90, "kind": "step", "name": "step"}
        | {"group": None, "bytes": None},
        {"rank": 1, "start": 10, "duration": 3, "kind": "collective", "name": "all_reduce"}
        | {"group": "tp:0-1", "bytes": 4096},
        {"rank": 1, "start": 20, "duration": 4, "kind": "kernel", "name": "gemm"}
        | {"group": None, "bytes": None},
    ]
    assert read.counters.to_pylist() == [
        {"rank": rank, "ts": 5, "name": "memory.allocated/bytes", "value": 17.0} for rank in (0, 1)
    ]


def test_many_batches_keep_their_words(tmp_path: Path) -> None:
    names = [f"kernel {number % 1_000}" for number in range(50_000)]
    with imported_run(tmp_path / "a", format="toy") as run:
        rank = run.rank(0)
        for at, name in enumerate(names):
            rank.add(start=at, duration=1, kind="kernel", name=name, lane="device:0 kernels")

    assert open_run(tmp_path / "a").events()["name"].to_pylist() == names


@pytest.mark.parametrize("error", [KeyboardInterrupt, DamagedTrace, ValueError])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with imported_run(tmp_path / "a", format="toy") as run:
            _fill(run)
            raise error("stopped")

    with pytest.raises(error, match="stopped"):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_nothing_imported_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(TraceError, match="nothing to import: no event of any rank in the toy files"),
        imported_run(tmp_path / "a", format="toy") as run,
    ):
        run.rank(0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"duration": None}, "rank 0: an event that cannot be: column 'duration': null"),
        ({"start": 1 << 70}, "no time in ns"),
        ({"step": 1 << 40}, "column 'step'"),
        ({"bytes": "many"}, "column 'bytes'"),
        ({"colour": "red"}, r"\['colour'\]: no such columns"),
    ],
)
def test_values_that_cannot_be(tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    def fill() -> None:
        with imported_run(tmp_path / "a", format="toy") as run:
            run.rank(0).add(
                **{"start": 0, "duration": 1, "kind": "user", "name": "n", "lane": "a"} | wrong
            )

    with pytest.raises(DamagedTrace, match=said):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_place_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(UsageError, match="name a directory to make, such as run"),
        imported_run(Path("."), format="toy"),
    ):
        pass


def test_parts_of_others_stay_whatever_the_name(tmp_path: Path) -> None:
    """`*` in a name is no pattern."""
    old = time.time() - 10 * 86_400
    others, mine = tmp_path / ".other.0.part", tmp_path / ".[a]*.0.part"
    for part in (others, mine):
        part.mkdir()
        os.utime(part, (old, old))
    with imported_run(tmp_path / "[a]*", format="toy") as run:
        run.rank(0).add(start=0, duration=1, kind="user", name="a", lane="host:main")
    assert others.is_dir()
    assert not mine.exists()


def test_only_an_imported_run_is_replaced(tmp_path: Path) -> None:
    with imported_run(tmp_path / "a", format="toy") as run:
        _fill(run)
    with (
        pytest.raises(UsageError, match=r"exists already.*--overwrite"),
        imported_run(tmp_path / "a", format="toy"),
    ):
        pass
    with imported_run(tmp_path / "a", format="toy", overwrite=True) as run:
        run.rank(0).add(start=5, duration=1, kind="user", name="only", lane="host:main")
    assert open_run(tmp_path / "a").event_count == 1

    recorded = write_run(tmp_path / "recorded", {0: [Event(start=0, duration=1, kind="step")]})
    with (
        pytest.raises(UsageError, match="is not an imported run, so it is not replaced"),
        imported_run(recorded, format="toy", overwrite=True),
    ):
        pass
    assert open_run(recorded).event_count == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "recorded"]


def test_clocks_of_unknown_hosts_are_aligned_by_collectives(tmp_path: Path) -> None:
    """Rank 1's clock is 5 ms ahead: a collective that ends at 40 µs on rank 0 ends there at
    5.040 ms, and began on both 10 µs before. So the bound is those 10 µs.
    """
    ahead = 5_000_000
    with imported_run(tmp_path / "a", format="toy") as run:
        for rank, offset in ((0, 0), (1, ahead)):
            mine = run.rank(rank)
            group = mine.topology.group([0, 1], "").name
            for seq in range(3):
                mine.add(
                    start=EPOCH + offset + 30_000 + 100_000 * seq,
                    duration=10_000,
                    kind="collective",
                    name="all_reduce",
                    lane="device:7",
                    group=group,
                    seq=seq,
                )
    read = open_run(tmp_path / "a")

    assert str(read.clock) == "ends of collectives, ± 10.0 µs, 0 of 3 operations out of order"
    assert (
        read.events(ranks=[0])["start"].to_pylist() == read.events(ranks=[1])["start"].to_pylist()
    )
