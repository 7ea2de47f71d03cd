"""Kineto files become runs: recorded ones of torch.profiler on CPU, and a GPU's by hand."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from collectors.importers import kineto_communication, kineto_rank
from collectors.importers.formats import files_of, format_named, import_files
from collectors.importers.kineto_communication import Operations, operations_of
from collectors.importers.kineto_events import KinetoEvents
from collectors.importers.kineto_pieces import PieceReader
from collectors.importers.kineto_reading import read_file
from collectors.torch_names import operation_named
from dashboard import Run, open_run
from dashboard.analysis.pipeline.actions import pipeline_actions
from dashboard.cli.command_line import rankscope
from tests.fuzz.using import use_all
from tests.support.kineto_toy import BASE, Toy, two_ranks
from tests.test_repo.markdown import ROOT, code_blocks
from tracer.errors import TraceError, UsageError

RECORDED = ROOT / "tests/data/kineto"
KINETO = format_named("kineto")


def imported(source: Path, out: Path, **options: Any) -> Run:
    import_files(KINETO, files_of(KINETO, [source]), out, **options)
    return open_run(out)


def rows(run: Run, *columns: str, **chosen: Any) -> list[tuple[Any, ...]]:
    table = run.events(columns=("start", *columns), **chosen)
    return [tuple(row[name] for name in columns) for row in table.to_pylist()]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("kineto")
    return imported(two_ranks(path / "traces"), path / "run")


def test_what_the_run_is(toy: Run) -> None:
    assert (toy.ranks, toy.steps, toy.meta.world_size) == ((0, 1), (4, 5), 2)
    assert toy.clock.method == "one clock"
    assert toy.facts[1].coordinates == {"tp": 1}
    assert toy.facts[1].device == "cuda (NVIDIA H100)"
    assert toy.meta.source is not None
    assert toy.meta.source.epoch_ns == BASE + 1_000_000
    assert toy.meta.versions["nccl"] == "2.27.5"
    assert toy.problems == ()


def test_steps_follow_each_other_and_the_last_ends_itself(toy: Run) -> None:
    assert rows(toy, "step", "start", "duration", ranks=[0], kinds=["step"]) == [
        (4, 0, 100_000),
        (5, 100_000, 99_000),
    ]


def test_kernels_carry_the_step_stage_and_microbatch_that_launched_them(toy: Run) -> None:
    found = rows(
        toy, "name", "lane", "start", "duration", "stage", "microbatch", ranks=[1], steps=[4],
        kinds=["kernel"],
    )  # fmt: skip
    on_device = [row for row in found if row[1].startswith("device:")]
    assert on_device == [
        ("void gemm<float>", "device:7 kernels", 11_000, 20_000, 1, 0),
        ("ncclDevKernel_allreduce", "device:13 kernels", 26_000, 20_000, None, None),
        ("void gemm<float>", "device:7 kernels", 41_000, 20_000, 1, 0),
        ("Memcpy DtoH (Device -> Pinned)", "device:7 kernels", 61_000, 2_000, None, None),
        ("adam", "device:7 kernels", 71_000, 10_000, None, None),
    ]


def test_a_collective_is_a_call_and_a_transfer_with_group_number_and_bytes(toy: Run) -> None:
    columns = ("lane", "name", "start", "duration", "group", "seq", "bytes", "count", "dtype")
    found = rows(toy, *columns, "correlation", ranks=[0], steps=[5], kinds=["collective"])
    same = ("tp:0-1", 5, 4000, 1000, "float32", 1)
    assert found == [
        ("host:main", "all_reduce", 111_000, 2_000, *same),
        ("device:13 communication", "all_reduce", 125_000, 20_000, *same),
    ]


def test_actions_are_what_the_device_did(toy: Run) -> None:
    found = [
        (a.rank, a.kind, a.stage, a.microbatch, a.start, a.end) for a in pipeline_actions(toy)[4]
    ]
    assert found == [
        (0, "forward", 0, 0, 10_000, 30_000),
        (1, "forward", 1, 0, 11_000, 31_000),
        (0, "backward", 0, 0, 40_000, 60_000),
        (1, "backward", 1, 0, 41_000, 61_000),
    ]
    assert toy.meta.schedule is not None
    assert toy.meta.schedule.plan == {0: ("0F0", "0B0"), 1: ("1F0", "1B0")}


def test_time_accounting_on_paper(toy: Run) -> None:
    """Of 100 µs, rank 0 in step 4: gemm 10-30 and 40-60 compute, adam 70-80 the optimizer, the
    all_reduce 25-45 is exposed from 30 to 40; the host issued 3-7 (mm), 15-19 lies under gemm.
    """
    table = toy.accounting().table.to_pylist()
    found = {
        row["category"]: row["duration"] for row in table if (row["rank"], row["step"]) == (0, 4)
    }
    assert {name: value for name, value in found.items() if value} == {
        "compute": 40_000,
        "optimizer": 10_000,
        "comm:tp": 10_000,
        "host": 4_000,
        "idle": 36_000,
    }


def test_bandwidth_of_the_collective(toy: Run) -> None:
    """4,000 bytes in 20 µs of which rank 1 comes 1 µs late: 4000/19 µs; factor 2(n-1)/n = 1."""
    (row,) = toy.bandwidth().summary.to_pylist()
    assert (row["group"], row["op"], row["count"], row["bytes_median"]) == (
        "tp:0-1",
        "all_reduce",
        2,
        4000,
    )


@pytest.mark.parametrize(
    ("operators", "names"),
    [
        ("outer", {"aten::mm"}),
        ("all", {"aten::mm", "aten::inner"}),
        ("none", set()),
    ],
)
def test_operators_of_the_host(tmp_path: Path, operators: str, names: set[str]) -> None:
    run = imported(two_ranks(tmp_path / "t"), tmp_path / "run", operators=operators)
    found = rows(run, "name", "lane", kinds=["kernel"])
    assert {name for name, lane in found if lane == "host:main operators"} == names


def test_launches_are_tied_to_their_kernels(tmp_path: Path) -> None:
    run = imported(two_ranks(tmp_path / "t"), tmp_path / "run", launches="yes")
    found = rows(run, "lane", "name", "correlation", ranks=[0], kinds=["kernel"])
    launches = {key for lane, _, key in found if lane == "host:main launches"}
    kernels = {key for lane, _, key in found if lane == "device:7 kernels"}
    assert len(kernels) == 8
    assert kernels <= launches
    page = (ROOT / "docs/migrating/from-torch-profiler-and-hta.md").read_text()
    (query,) = [b for b in code_blocks(page, "sql") if "delay_us" in b]
    found = {(row["rank"], row["name"]): row for row in run.sql(query).table.to_pylist()}
    assert found[0, "adam"]["kernels"] == 2
    assert found[0, "adam"]["delay_us"] == 42.0


def test_ranks_of_unknown_hosts_are_laid_on_each_other_by_collectives(tmp_path: Path) -> None:
    """Their clocks are equal in truth, and the all_reduces end 1 µs apart: taken for one instant,
    and the bound says that it may be up to 20 µs off, and some ns more by drift.
    """
    run = imported(two_ranks(tmp_path / "t", host=None), tmp_path / "run")
    assert run.clock.method == "ends of collectives"
    assert run.clock.bound_ns is not None
    assert 20_000 <= run.clock.bound_ns < 20_100
    assert run.clock.violations == 0
    assert run.meta.source is not None
    assert any("host names" in sentence for sentence in run.meta.source.lacks)


def test_an_event_does_not_make_the_file_an_export_of_ours(toy: Run, tmp_path: Path) -> None:
    for path in two_ranks(tmp_path / "traces").iterdir():
        trace = json.loads(path.read_text())
        trace["traceEvents"][0]["args"]["rankscope"] = {"format_version": 1}
        path.write_text(json.dumps(trace))
    assert imported(tmp_path / "traces", tmp_path / "run").event_count == toy.event_count


def test_every_answer_works_on_a_gpu_trace(toy: Run) -> None:
    assert use_all(toy.path) == "used"


@pytest.mark.parametrize("name", ["ddp2", "pp2-tp2-1f1b", "pp2-interleaved"])
def test_every_answer_works_on_recorded_traces(tmp_path: Path, name: str) -> None:
    run = imported(RECORDED / name, tmp_path / "run")

    assert run.steps == (2, 3, 4)
    assert run.clock.method == "one clock"
    for command in ("check", "report"):
        assert CliRunner().invoke(rankscope, [command, str(run.path)]).exit_code == 0
    if name == "pp2-interleaved":
        assert use_all(run.path, pages=False) == "used"


def test_the_actions_of_a_recorded_schedule(tmp_path: Path) -> None:
    """Interleaved 1F1B of two ranks with two stages each and four microbatches: each does each
    forward and backward once, and every message is sent and received.
    """
    run = imported(RECORDED / "pp2-interleaved", tmp_path / "run")
    for step, actions in pipeline_actions(run).items():
        done = sorted((a.kind, a.stage, a.microbatch) for a in actions)
        wanted = [(k, s, m) for k in ("backward", "forward") for s in range(4) for m in range(4)]
        assert done == wanted, step
        assert all(action.rank == action.stage % 2 for action in actions)
    messages = run.sql("select count(*) n, count(send_start) s, count(recv_start) r from p2p").table
    assert messages.to_pylist() == [{"n": 72, "s": 72, "r": 72}]


def test_the_critical_path_names_actions_and_not_their_operators(tmp_path: Path) -> None:
    """A label's time is compute of its stage; operators outside of all labels are compute too,
    where there is no device.
    """
    toy = Toy(0, 1)
    toy.step(0, 0, 100)
    toy.host("user_annotation", "PP:0F0", 10, 30)
    toy.host("cpu_op", "aten::mm", 12, 20)
    toy.host("cpu_op", "aten::loss", 50, 30)
    run = imported(toy.write(tmp_path / "rank0.json"), tmp_path / "run")
    found = [
        (row["category"], row["name"], row["stage"], round(row["ns_per_step"]))
        for row in run.critical_path().summary.to_pylist()
    ]
    assert found == [
        ("idle", "no span", None, 50_000),
        ("compute", "aten::loss", None, 30_000),
        ("compute", "0F0", 0, 20_000),
    ]
    table = run.accounting().table.to_pylist()
    spent = {row["category"]: row["duration"] for row in table if row["duration"]}
    assert spent == {"compute": 50_000, "idle": 50_000}


def test_operations_of_unknown_size_have_no_bandwidth(tmp_path: Path) -> None:
    run = imported(RECORDED / "pp2-interleaved", tmp_path / "run")
    (row,) = run.bandwidth().summary.to_pylist()
    assert (row["op"], row["count"], row["bytes_total"]) == ("p2p", 72, 0)
    assert row["bytes_median"] is None
    assert row["busbw_skew_free"] is None
    assert row["skew_ns_mean"] > 0


class _Watched(list[Any]):
    """Counts how often one of it is looked at."""

    looked = 0

    def __iter__(self) -> Iterator[Any]:
        self.looked += len(self)
        return super().__iter__()

    def __getitem__(self, at: Any) -> Any:
        self.looked += 1
        return super().__getitem__(at)


@pytest.mark.parametrize("batch", [1_000, 2])
def test_operations_that_all_differ_are_looked_at_once(tmp_path: Path, batch: int) -> None:
    """And names, however many batches are written."""
    toy, different = Toy(0, 2), 100
    for number in range(different):
        at = 10 * number
        split = {"In msg nelems": 10 + number, "In split size": f"[{number}, 10]"}
        toy.nccl("all_to_allv", at, at + 4, 2, Seq=number, **split)
        toy.kernel(f"gemm_{number}", at + 1, at + 6, 1)
    watched: list[_Watched] = []
    named: list[str] = []

    def found(events: KinetoEvents, *known: Any) -> Operations:
        operations = operations_of(events, *known)
        for of, name in ((operations, "described"), (events.names, "words")):
            watched.append(_Watched(getattr(of, name)))
            setattr(of, name, watched[-1])
        return operations

    def operation(name: str) -> str | None:
        named.append(name)
        return operation_named(name)

    with (
        patch.multiple(kineto_rank, operations_of=found, _ROWS=batch),
        patch.object(kineto_communication, "operation_named", operation),
    ):
        run = imported(toy.write(tmp_path / "rank0.json"), tmp_path / "run")
    described, names = watched
    assert len(described) == len(named) == different
    assert described.looked <= 20 * different  # a few columns
    assert names.looked <= 5 * len(names)
    bytes_ = rows(run, "name", "bytes", kinds=["collective"])
    assert sorted(set(bytes_)) == [("all_to_all", 4 * (10 + n)) for n in range(different)]


def test_texts_of_calls_are_let_go_when_the_file_ends(tmp_path: Path) -> None:
    """Helpers hand on what they have read: what only reading needs is not among it."""
    toy = Toy(0, 2)
    toy.nccl("allreduce", 10, 20, 5, Seq=1)
    path = toy.write(tmp_path / "rank0.json")
    with contextlib.closing(PieceReader()) as reader:
        events = read_file(path, reader, lambda done: None).events
    assert events is not None
    assert len(events.said) == 1
    assert (events._texts.words, events._operations) == ([], set())


def test_times_before_the_base_are_times(tmp_path: Path) -> None:
    toy = Toy(0, 2)
    toy.step(1, -5_010, 100)
    toy.nccl("allreduce", -5_000, -4_990, 20, Seq=1)
    run = imported(toy.write(tmp_path / "rank0.json"), tmp_path / "run")
    calls = rows(run, "start", "duration", "lane", kinds=["collective"])
    assert calls == [(10_000, 2_000, "host:main"), (20_000, 20_000, "device:13 communication")]


def test_a_number_too_large_is_not_taken_for_a_repeated_one(tmp_path: Path) -> None:
    toy = Toy(0, 2)
    toy.step(1, 0, 100)
    for at, seq in ((10, 5), (20, 5), (30, (1 << 32) + 5)):
        toy.nccl("allreduce", at, at + 5, 2, Seq=seq)
    run = imported(toy.write(tmp_path / "rank0.json"), tmp_path / "run")
    assert len({seq for (seq,) in rows(run, "seq", kinds=["collective"])}) == 3


def test_optimizers_and_gradients_of_ddp(tmp_path: Path) -> None:
    run = imported(RECORDED / "ddp2", tmp_path / "run")
    kinds = [row[0] for row in rows(run, "kind", ranks=[0], steps=[3])]
    assert kinds.count("optimizer") == 1
    assert kinds.count("forward") == 1
    assert kinds.count("backward") >= 1
    assert rows(run, "name", "group", ranks=[0], steps=[3], kinds=["collective"]) == [
        ("all_reduce", "world:0-1")
    ]


def test_plain_compressed_compact_and_bare_lists_are_the_same(tmp_path: Path) -> None:
    toy = Toy(0, 1)
    toy.step(0, 0, 10)
    toy.kernel("gemm", 1, 2, 3)
    toy.write(tmp_path / "plain.json")
    toy.write(tmp_path / "packed.json.gz")
    toy.write(tmp_path / "compact.json", indent=None)
    (tmp_path / "bare.json").write_text(json.dumps(toy.events))
    found = {}
    for path in sorted(tmp_path.glob("*.json*")):
        run = imported(path, tmp_path / path.name.partition(".")[0])
        found[path.name] = rows(run, "start", "duration", "kind", "name", "lane")
    assert len(found) == 4
    assert all(events == found["plain.json"] for events in found.values())
    assert len(found["plain.json"]) == 2


def test_the_rank_is_that_of_the_file_else_of_its_name(tmp_path: Path) -> None:
    two_ranks(tmp_path)
    for path in tmp_path.iterdir():
        content = json.loads(path.read_text())
        del content["distributedInfo"]
        path.write_text(json.dumps(content))
    assert imported(tmp_path, tmp_path / "run").ranks == (0, 1)
    (tmp_path / "rank1.json").rename(tmp_path / "other.json")
    with pytest.raises(TraceError, match=r"other\.json: which rank\?.*put rank0, rank1"):
        imported(tmp_path, tmp_path / "run2")


def test_two_recordings_of_a_rank_are_refused_and_two_windows_joined(tmp_path: Path) -> None:
    two_ranks(tmp_path / "a")
    shutil.copy(tmp_path / "a/rank0.json", tmp_path / "a/again.json")
    with pytest.raises(TraceError, match="both of rank 0 and of the same steps"):
        imported(tmp_path / "a", tmp_path / "run")

    for number in (3, 4):
        toy = Toy(0, 1)
        toy.step(number, 100 * number, 50)
        toy.kernel("gemm", 100 * number + 1, 100 * number + 2, 3)
        (tmp_path / "b").mkdir(exist_ok=True)
        toy.write(tmp_path / f"b/window-{number}.json")
    assert imported(tmp_path / "b", tmp_path / "run").steps == (3, 4)


def test_a_recording_without_steps_is_one_step(tmp_path: Path) -> None:
    toy = Toy(0, 1)
    toy.kernel("gemm", 1, 2, 3)
    toy.host("cpu_op", "aten::mm", 0, 2)
    run = imported(toy.write(tmp_path / "t.json"), tmp_path / "run")
    assert rows(run, "step", "start", "duration", kinds=["step"]) == [(0, 0, 5_000)]
    assert run.meta.source is not None
    assert run.meta.source.lacks[0].startswith("no steps (call profiler.step()")


def test_a_folder_of_traces_is_a_run_and_made_anew_when_it_changes(tmp_path: Path) -> None:
    traces = two_ranks(tmp_path / "traces")
    first = open_run(traces)
    assert (first.name, first.ranks) == ("traces", (0, 1))
    again = open_run(traces)
    assert again.meta.run_id == first.meta.run_id
    (traces / "rank1.json").unlink()
    changed = open_run(traces)
    assert changed.ranks == (0,)
    assert changed.meta.run_id != first.meta.run_id
    assert open_run(traces / "rank0.json").ranks == (0,)


def test_the_command(tmp_path: Path) -> None:
    two_ranks(tmp_path / "traces")
    arguments = ["import", "kineto", str(tmp_path / "traces"), "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(rankscope, arguments)
    assert done.exit_code == 0, done.output
    assert "2 of 2 ranks, 2 steps" in done.output
    again = CliRunner().invoke(rankscope, arguments)
    assert isinstance(again.exception, UsageError)
    assert CliRunner().invoke(rankscope, [*arguments, "--overwrite"]).exit_code == 0
    nothing = ["import", "kineto", str(tmp_path), "-o", str(tmp_path / "b")]
    said = str(CliRunner().invoke(rankscope, nothing).exception)
    assert "these have some, name one: " + str(tmp_path / "traces") in said
    assert (
        "ProfilerStep#n as steps"
        in CliRunner().invoke(rankscope, ["import", "kineto", "-h"]).output
    )
