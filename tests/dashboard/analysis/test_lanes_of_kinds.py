"""Which lanes a rank's kinds of events are on, and that the events are not read again for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pyarrow as pa

from dashboard import open_run
from dashboard.analysis.device_view import as_devices_ran
from dashboard.analysis.lanes_of_kinds import lanes_of_kinds, works_on_device
from dashboard.analysis.replay.graph import dependency_graph
from dashboard.analysis.replay.reservations import reservations
from dashboard.runs import Recording
from tests.support.toy import Event, write_run

SAMPLE = Path("sample_traces/pp2-tp2-1f1b")


class _Counting(Mapping[int, pa.Table]):
    """Tables, and how often each rank's was asked for."""

    def __init__(self, tables: Mapping[int, pa.Table]) -> None:
        self._tables = tables
        self.asked: Counter[int] = Counter()

    def __getitem__(self, rank: int) -> pa.Table:
        self.asked[rank] += 1
        return self._tables[rank]

    def __iter__(self) -> Iterator[int]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


def test_a_forward_that_a_device_recorded_as_well(tmp_path: Path) -> None:
    events = [
        Event(start=0, duration=10, kind="step", step=0),
        Event(start=0, duration=2, kind="forward", step=0),
        Event(start=1, duration=5, kind="forward", step=0, lane="device:7"),
        Event(start=8, duration=1, kind="optimizer", step=0),
    ]
    run = open_run(write_run(tmp_path, {0: events}))
    lanes = lanes_of_kinds(run, 0)
    assert lanes["forward"] == {"host:main", "device:7"}
    assert lanes["optimizer"] == {"host:main"}
    assert "collective" not in lanes
    assert works_on_device(run, 0, ("optimizer", "forward"))
    assert not works_on_device(run, 0, ("optimizer", "backward"))


def test_a_rank_is_read_once_for_its_part_of_the_graph() -> None:
    run = open_run(SAMPLE)
    run.tables = tables = _Counting(run.tables)
    dependency_graph(run)
    assert not reservations(run)
    assert as_devices_ran(run) is run
    assert tables.asked == dict.fromkeys(run.ranks, 1)


def test_threads_that_ask_at_once_get_the_same_answer() -> None:
    """All of them look, none having found it yet; the first that has found it answers for all."""
    run = open_run(SAMPLE)
    together = Barrier(4, timeout=10)

    def found(of: Recording, rank: int) -> list[int]:
        together.wait()
        return [rank]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: run.answer_of_rank(found, 1), range(4)))
    assert [answer is answers[0] for answer in answers] == [True] * 4
    assert answers[0] == [1]
    assert run.answer_of_rank(found, 1) is answers[0]
