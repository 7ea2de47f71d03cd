"""What is put together from parts of any size is what one look at the whole gives."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.generate import simulated
from benchmarks.simulated.writing import Hosts
from benchmarks.simulated.writing import write_run as write_simulated
from collectors.importers.imported_run import imported_run
from dashboard import Run, open_run
from dashboard.analysis.communication.bandwidth import measure_bandwidth
from dashboard.analysis.comparing.compared_sums import SumIn
from dashboard.analysis.comparing.questions import questions
from dashboard.analysis.comparing.trend import trend
from dashboard.analysis.pipeline.bubbles import measure_bubbles
from dashboard.analysis.pipeline.bubbles_by_rank import bubbles_by_rank
from dashboard.analysis.time_spent.accounting import account
from dashboard.analysis.time_spent.spent_by_rank import spent_by_rank
from dashboard.cluster import Elsewhere, InProcess, Place, Processes, answers
from dashboard.cluster.shelf import Shelf
from dashboard.cluster.tasks import Task, tree
from dashboard.runs import packed
from dashboard.runs.gather import gather, survey
from dashboard.runs.stores import store_at
from tests.support.toy import Event, RankFacts, write_run
from tests.test_repo.markdown import ROOT

SAMPLES = ROOT / "sample_traces"
ROWS = (account, measure_bubbles, measure_bandwidth)
ANALYSES = (*ROWS, spent_by_rank, bubbles_by_rank)
STEPS, STEP = 4, 100


def _tables(run: Run) -> Mapping[str, list[dict[str, Any]]]:
    found = {}
    for analysis in ANALYSES:
        tables = run.answer(analysis).tables()
        found |= {f"{analysis.__name__}.{name}": t.to_pylist() for name, t in tables.items()}
    return found | {"sums": _plain(run.answer(_sums(run)))}


def _sums(run: Run) -> SumIn:
    """Strata of every other rank."""
    return SumIn(tuple((rank, rank % 2) for rank in run.ranks))


def _plain(found: Any) -> Any:
    """What may be compared of dataclasses of arrays."""
    if is_dataclass(found):
        return [_plain(getattr(found, field.name)) for field in fields(found)]
    return found.tolist() if isinstance(found, np.ndarray) else found


def _by_parts(path: Path, steps: int, place: Place | None = None, **options: Any) -> Any:
    run = open_run(path)
    place = InProcess() if place is None else place
    together = (*ANALYSES, _sums(run))
    run.elsewhere = Elsewhere(run, place, together, steps_per_task=steps, **options)
    return _tables(run)


def _sums_by_parts(path: Path, steps: int) -> Mapping[str, list[dict[str, Any]]]:
    """Where nobody asks for the rows that they are the sums of."""
    run = open_run(path)
    asked = (spent_by_rank, bubbles_by_rank)
    run.elsewhere = Elsewhere(run, InProcess(), asked, steps_per_task=steps)
    return {
        f"{analysis.__name__}.{name}": table.to_pylist()
        for analysis in asked
        for name, table in run.answer(analysis).tables().items()
    }


def _random_run(path: Path, chance: random.Random, *, on_device: bool) -> Path:
    """Two pipeline stages on two ranks, with work, operations and waits anywhere, across steps
    too; some without a step. Each operation has the same number on both ranks.
    """
    groups = {"pp:0-1": {"dim": "pp", "ranks": [0, 1]}}
    events: dict[int, list[Event]] = {}
    for rank in (0, 1):
        mine = [
            Event(start=STEP * step, duration=STEP, kind="step", step=step) for step in range(STEPS)
        ]
        for microbatch in range(12):
            begin = chance.randrange(STEPS * STEP)
            work = {
                "start": begin,
                "duration": chance.randrange(40),
                "kind": chance.choice(["forward", "backward", "optimizer", "data"]),
                "step": begin // STEP,
                "stage": rank,
                "microbatch": microbatch,
            }
            mine.append(Event(**work))
            if on_device and chance.random() < 0.7:
                late = {"start": begin + chance.randrange(150), "lane": "device:7"}
                mine.append(Event(**work | late))
        for seq in range(12):
            mine += _operation(chance, rank, seq, on_device=on_device)
        chance.shuffle(mine)
        events[rank] = mine
    facts = {
        rank: RankFacts(coordinates={"pp": rank}, stages=(rank,), groups=groups) for rank in (0, 1)
    }
    return write_run(path, events, facts=facts)


def _operation(chance: random.Random, rank: int, seq: int, *, on_device: bool) -> list[Event]:
    begin = (seq * STEPS * STEP) // 12 + chance.randrange(30)
    is_p2p = seq % 2
    kind = ("send" if rank == 0 else "recv") if is_p2p else "collective"
    name = kind if is_p2p else "all_reduce"
    common: dict[str, Any] = {
        "name": name,
        "group": "pp:0-1",
        "seq": seq,
        "peer": 1 - rank if is_p2p else None,
        "bytes": 64,
        "correlation": seq,
    }
    step = chance.choice([begin // STEP, None]) if chance.random() < 0.1 else begin // STEP
    found = [Event(start=begin, duration=2, kind=kind, step=step, **common)]
    if chance.random() < 0.8:
        later = begin + chance.randrange(2, 250)
        when = min(later // STEP, STEPS - 1)
        wait = {"start": later, "duration": chance.randrange(30), "kind": "wait", "step": when}
        found.append(Event(**wait, **common))
    if on_device and chance.random() < 0.6:
        later = begin + chance.randrange(250)
        moved = {"start": later, "duration": chance.randrange(30), "kind": kind, "step": step}
        found.append(Event(**moved, lane="device:9", **common))
    return found


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_parts_of_random_runs_add_up_exactly(tmp_path: Path, on_device: bool) -> None:
    chance = random.Random(20_261_127)
    for number in range(5):
        path = _random_run(tmp_path / str(number), chance, on_device=on_device)
        whole = _tables(open_run(path))
        assert whole["measure_bandwidth.operations"], "there is something to compare"
        assert _by_parts(path, 1) == whole
        assert _by_parts(path, 3) == whole
        assert _sums_by_parts(path, 3) == {name: whole[name] for name in _sums_by_parts(path, 1)}


def test_parts_of_a_packed_run_read_some_groups_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed.pack, "__kwdefaults__", {"rows": 64})
    source, target = store_at(SAMPLES / "pp2-tp2-1f1b"), store_at(tmp_path / "packed")
    gather(survey([source], target), target, packed=True)
    streams, rows = open_run(SAMPLES / "pp2-tp2-1f1b"), open_run(tmp_path / "packed")
    assert _by_parts(tmp_path / "packed", 5) == _tables(streams)
    for steps in ([7], [3, 9]):
        for analysis in ANALYSES:
            assert str(rows.answer(analysis, steps)) == str(streams.answer(analysis, steps))
        assert rows.accounting(steps).to_json() == streams.accounting(steps).to_json()


@pytest.mark.parametrize("pack", [False, True])
def test_a_step_without_kernels_of_an_imported_run_is_still_of_a_device(
    tmp_path: Path, pack: bool
) -> None:
    with imported_run(tmp_path / "run", format="kineto") as made:
        rank = made.rank(0, clock="one")
        for step in range(6):
            begin = 1_000 * step
            window = {"start": begin, "duration": 1_000, "kind": "step", "step": step}
            rank.add(name="step", lane="host:main", **window)
            work = {"start": begin + 10, "duration": 50, "kind": "kernel", "step": step}
            for lane, name in (("host:main operators", "aten::mm"), ("device:7 kernels", "gemm")):
                if step != 3 or lane.startswith("host:"):
                    rank.add(name=name, lane=lane, **work)
    path = tmp_path / "run"
    whole = _tables(open_run(path))
    if pack:
        path, target = tmp_path / "packed", store_at(tmp_path / "packed")
        gather(survey([store_at(tmp_path / "run")], target), target, packed=True)
    assert _by_parts(path, 1) == whole
    assert open_run(path).accounting([3]).share("host") == pytest.approx(0.05)


def test_ranks_on_hosts_with_clocks_of_their_own(tmp_path: Path) -> None:
    training = simulated(pipeline=2, tensor=2, data=1, microbatches=4, jitter=0.02)
    streams = tmp_path / "streams"
    write_simulated(streams, training, steps=3, hosts=Hosts(ranks_per_host=2), kernels=1)
    source, target = store_at(streams), store_at(tmp_path / "packed")
    gather(survey([source], target), target, packed=True)
    run, again = open_run(streams), open_run(tmp_path / "packed")
    assert run.clock.method == "exchange between hosts"
    assert str(again.clock) == str(run.clock)
    assert again.problems == run.problems
    assert again.recorded_until == run.recorded_until
    assert _sorted(again.events()) == _sorted(run.events())
    assert _by_parts(tmp_path / "packed", 1) == _tables(run)


def _sorted(events: pa.Table) -> list[str]:
    return sorted(map(str, events.to_pylist()))


def test_a_process_that_is_lost_loses_nothing() -> None:
    path = SAMPLES / "pp4-1f1b-balanced"
    lost = []

    def watch(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        def advance(count: int) -> None:
            if not lost:
                victim = multiprocessing.active_children()[0]
                victim.kill()
                lost.append(victim)

        return nullcontext(advance)

    assert _by_parts(path, 8, Processes(2), watch=watch) == _tables(open_run(path))
    assert lost


@pytest.mark.parametrize("place", [InProcess(), Processes(2)], ids=["here", "workers"])
def test_comparisons_by_parts_are_those_of_whole_runs(place: Place) -> None:
    names = ("pp4-1f1b-balanced", "pp4-1f1b-slow-stage", "pp2-tp2-1f1b")
    whole = trend([open_run(SAMPLES / name) for name in names])
    runs = [open_run(SAMPLES / name) for name in names]
    asked = questions(runs)
    for run in runs:
        run.elsewhere = Elsewhere(run, place, [asked[run].sums], steps_per_task=5)
    assert trend(runs).to_json() == whole.to_json()


def test_sums_in_several_strata_at_once_are_told_apart() -> None:
    path = SAMPLES / "pp4-1f1b-balanced"
    whole, parts = open_run(path), open_run(path)
    each = SumIn(tuple((rank, rank) for rank in whole.ranks))
    both = (_sums(whole), each)
    parts.elsewhere = Elsewhere(parts, InProcess(), both, steps_per_task=9)
    for sums in both:
        assert _plain(parts.answer(sums)) == _plain(whole.answer(sums))
    assert _plain(parts.answer(each)) != _plain(parts.answer(both[0]))


def test_only_some_steps_are_asked_for() -> None:
    path = SAMPLES / "pp4-1f1b-balanced"
    run, parts = open_run(path), open_run(path)
    parts.elsewhere = Elsewhere(parts, InProcess(), (account,), steps_per_task=2)
    assert parts.accounting([3, 4, 9]).table.equals(run.accounting([3, 4, 9]).table)
    assert parts.bubbles([3]).ranks.equals(run.bubbles([3]).ranks), "left to this process"


def test_answers_lie_on_disk_while_others_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those by rank and step would take memory from the replay of a long run."""
    monkeypatch.setattr(answers, "_KEPT", 0)
    written: list[object] = []
    put_away = Shelf._put_away

    def watched(shelf: Shelf, result: object) -> Any:
        written.append(result)
        return put_away(shelf, result)

    monkeypatch.setattr(Shelf, "_put_away", watched)
    path = SAMPLES / "pp4-1f1b-balanced"
    run, parts = open_run(path), open_run(path)
    parts.elsewhere = Elsewhere(parts, InProcess(), (spent_by_rank, bubbles_by_rank))
    for analysis in (spent_by_rank, bubbles_by_rank, spent_by_rank):
        told = parts.answer(analysis)
        assert told.tables() == run.answer(analysis).tables()
        assert type(told) in map(type, written)
        assert parts.answer(analysis) is not told, "nobody holds it"


def test_answers_stay_in_memory_where_there_is_no_place_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_KEPT", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    path = SAMPLES / "pp4-1f1b-balanced"
    run, parts = open_run(path), open_run(path)
    parts.elsewhere = Elsewhere(parts, InProcess(), (spent_by_rank,))
    assert parts.answer(spent_by_rank).tables() == run.answer(spent_by_rank).tables()


def test_a_tree_joins_in_order() -> None:
    tasks = {f"leaf-{n}": Task(call=_digits, arguments=(n,)) for n in range(300)}
    top = tree(tasks, "joined", list(tasks), _joined)
    found = InProcess().do(tasks, [top], lambda count: None)
    assert found == {top: tuple(range(300))}
    assert max(len(task.needs) for task in tasks.values()) == 16


def _digits(n: int) -> tuple[int, ...]:
    return (n,)


def _joined(*parts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(number for part in parts for number in part)
