"""What the device did, on paper and against Holistic Trace Analysis on the same Kineto files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import Run, open_run
from dashboard.analysis.time_spent.kernels import purpose_of
from tests.support.kineto_toy import Toy
from tests.support.toy import Event, write_run

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # HTA's use of pandas

GEMM, NCCL, COPY = "gemm", "ncclDevKernel_AllReduce", "Memcpy DtoH"


def kernel(name: str, start: int, end: int, *, stream: int = 7, step: int = 0) -> Event:
    lane = f"device:{stream} kernels"
    return Event(start=start, duration=end - start, kind="kernel", name=name, lane=lane, step=step)


def steps(*numbers: int) -> list[Event]:
    return [Event(start=100 * n, duration=100, kind="step", step=n) for n in numbers]


def test_one_rank_on_paper(tmp_path: Path) -> None:
    """gemm 0-10 and 30-40, NCCL 5-20, a copy 35-45: from 0 to 45, 20-30 idle; 20 of compute;
    10 of NCCL alone and 5 of the copy alone; NCCL overlaps compute for 5 of 15.
    """
    events = [
        *steps(0),
        kernel(GEMM, 0, 10),
        kernel(GEMM, 30, 40),
        kernel(NCCL, 5, 20, stream=13),
        kernel(COPY, 35, 45, stream=9),
    ]
    run = open_run(write_run(tmp_path / "run", {0: events}))

    (row,) = run.temporal_breakdown().ranks.to_pylist()
    assert row == {
        "rank": 0, "kernel_time_ns": 45, "idle_ns": 10, "compute_ns": 20, "non_compute_ns": 15,
        "communication_ns": 15, "memory_ns": 10, "overlapped_ns": 5, "overlap": 5 / 15,
    }  # fmt: skip
    assert run.temporal_breakdown().share("compute") == 20 / 45
    breakdown = run.kernel_breakdown()
    assert [(r["running"], r["duration_ns"]) for r in breakdown.by_purpose.to_pylist()] == [
        ("compute", 10),
        ("communication", 10),
        ("memory", 5),
        ("compute + communication", 5),
        ("compute + memory", 5),
    ]
    assert breakdown.kernels.to_pylist()[0] == {
        "rank": 0, "purpose": "compute", "name": GEMM, "count": 2, "sum_ns": 20, "mean_ns": 10.0,
        "min_ns": 10, "max_ns": 10, "stddev_ns": 0.0,
    }  # fmt: skip


SPANS = st.lists(
    st.tuples(
        st.sampled_from([GEMM, NCCL, COPY, "Context Sync"]),
        st.integers(0, 80),
        st.integers(0, 40),
        st.sampled_from([7, 13]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(spans=SPANS)
def test_every_nanosecond_is_counted_by_a_plain_loop_too(spans: list[Any]) -> None:
    events = [kernel(name, at, at + length, stream=lane) for name, at, length, lane in spans]
    with tempfile.TemporaryDirectory() as directory:
        run = open_run(write_run(Path(directory) / "run", {0: [*steps(0), *events]}))
        (row,) = run.temporal_breakdown().ranks.to_pylist()
        at_once = run.kernel_breakdown().by_purpose.to_pylist()
    running = [
        {name for name, at, length, _ in spans if at <= now < at + length} for now in range(120)
    ]
    extent = max(at + length for _, at, length, _ in spans) - min(at for _, at, *_ in spans)
    assert row["kernel_time_ns"] == extent
    assert row["compute_ns"] == sum(GEMM in names for names in running)
    assert row["idle_ns"] == extent - sum(bool(names) for names in running)
    assert row["idle_ns"] + row["compute_ns"] + row["non_compute_ns"] == extent
    assert row["overlapped_ns"] == sum({GEMM, NCCL} <= names for names in running)
    alone = sum(bool(names - {"Context Sync"}) for names in running)
    assert sum(part["duration_ns"] for part in at_once) == alone


def test_between_kernel_windows_nothing_is_known(tmp_path: Path) -> None:
    """Kernels in steps 0, 1 and 5: from 10 to 190, and from 520 to 540."""
    events = [
        *steps(0, 1, 2, 3, 4, 5),
        kernel(GEMM, 10, 90),
        kernel(GEMM, 110, 190, step=1),
        kernel(GEMM, 520, 540, step=5),
    ]
    run = open_run(write_run(tmp_path / "run", {0: events}))
    (row,) = run.temporal_breakdown().ranks.to_pylist()
    assert (row["kernel_time_ns"], row["idle_ns"], row["overlap"]) == (200, 20, None)
    (only,) = run.temporal_breakdown([5]).ranks.to_pylist()
    assert only["kernel_time_ns"] == 20


def test_without_kernels_there_are_no_ranks(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: steps(0)}))
    assert run.temporal_breakdown().ranks.num_rows == 0
    assert run.temporal_breakdown().share("idle") == 0
    assert run.kernel_breakdown().kernels.num_rows == 0


@pytest.mark.parametrize(
    ("name", "purpose"),
    [
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgs<4>)", "communication"),
        ("ncclKernel_SendRecv", "communication"),
        ("Memcpy HtoD (Pinned -> Device)", "memory"),
        ("Memset (Device)", "memory"),
        ("Context Sync", "other"),
        ("void at::native::vectorized_elementwise_kernel<4>", "compute"),
        ("ncclLikeName", "compute"),
    ],
)  # fmt: skip
def test_a_name_says_the_purpose(name: str, purpose: str) -> None:
    assert purpose_of(name) == purpose


def _random_traces(directory: Path, *, whole: bool) -> int:
    """Three ranks, five steps, overlapping kernels on three streams; returns the kernels of a rank.
    Times are whole µs or have ns.
    """
    directory.mkdir()
    per_step = 60
    for rank in range(3):
        random = np.random.default_rng((7, rank, whole))
        toy = Toy(rank, 3)
        for step in range(5):
            begin = 1000 + 4000 * step
            toy.step(step, begin, 4000)
            at = np.sort(random.uniform(0, 3500, per_step))
            length = random.lognormal(3.5, 1, per_step).clip(1, 400)
            names = random.choice(
                [GEMM, "void add<float>", COPY, NCCL, "Memset (Device)"], per_step
            )
            for start, duration, name in zip(at, length, names, strict=True):
                digits = 0 if whole else 3
                start, duration = round(start, digits), round(duration, digits)
                stream = {GEMM: 7, NCCL: 13}.get(str(name), 9)
                where = {"stream": stream}
                toy.kernel(str(name), begin + start, begin + start + 20, duration, **where)
        toy.write(directory / f"rank{rank}.json")
    return per_step * 5


def _hta(directory: Path) -> tuple[Any, Any, Any]:
    """Its three tables of all ranks."""
    from hta.common.trace import Trace
    from hta.trace_analysis import TraceAnalysis

    analysis = TraceAnalysis.__new__(TraceAnalysis)
    analysis.t = Trace({rank: f"rank{rank}.json" for rank in range(3)}, str(directory))
    analysis.t.load_traces(use_multiprocessing=False, use_memory_profiling=False)
    return (
        analysis.get_temporal_breakdown(visualize=False),
        analysis.get_comm_comp_overlap(visualize=False),
        analysis.get_gpu_kernel_breakdown(
            visualize=False, include_memory_kernels=True, num_kernels=100, duration_ratio=1.0
        ),
    )


@pytest.fixture(scope="module", params=[True, False], ids=["whole µs", "ns"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Any, float]:
    """Our run of the traces; HTA's tables of the same; how far its rounding may be off, in µs.

    HTA rounds every start up and every end down to µs, unless it is told not to. In traces of
    whole µs there is nothing to round; in the others it is told not to, and sums of its doubles
    are off by less than a ns per kernel.
    """
    directory = tmp_path_factory.mktemp("hta") / "traces"
    kernels = _random_traces(directory, whole=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTA_DISABLE_NS_ROUNDING", "0" if request.param else "1")
        theirs = _hta(directory)
    return open_run(directory), theirs, 0.0 if request.param else kernels * 1e-3


def test_the_temporal_breakdown_is_that_of_hta(both: tuple[Run, Any, float]) -> None:
    """HTA leaves out the last ProfilerStep."""
    run, (theirs, _, _), off = both
    ours = run.temporal_breakdown(run.steps[:-1]).ranks.to_pylist()

    assert len(ours) == len(theirs) == 3
    for mine, hta in zip(ours, theirs.to_dict("records"), strict=True):
        assert mine["rank"] == hta["rank"]
        for part in ("idle", "compute", "non_compute", "kernel"):
            name = "kernel_time_ns" if part == "kernel" else f"{part}_ns"
            assert mine[name] / 1e3 == pytest.approx(hta[f"{part}_time(us)"], abs=off, rel=0), part
        whole = mine["kernel_time_ns"]
        assert round(100 * mine["idle_ns"] / whole, 2) == pytest.approx(
            hta["idle_time_pctg"], abs=0.011
        )


def test_the_overlap_is_that_of_hta(both: tuple[Run, Any, float]) -> None:
    run, (_, theirs, _), _ = both
    ours = run.temporal_breakdown(run.steps[:-1]).ranks.to_pylist()
    assert all(0.05 < row["overlap"] < 0.95 for row in ours)
    for mine, hta in zip(ours, theirs.to_dict("records"), strict=True):
        assert 100 * mine["overlap"] == pytest.approx(hta["comp_comm_overlap_pctg"], abs=0.011)


def test_the_kernels_are_those_of_hta(both: tuple[Run, Any, float]) -> None:
    run, (_, _, (_, theirs)), off = both
    ours = {
        (row["rank"], row["name"]): row
        for row in run.kernel_breakdown(run.steps[:-1]).kernels.to_pylist()
    }
    assert len(ours) == len(theirs) == 15
    purposes = {"compute": "COMPUTATION", "communication": "COMMUNICATION", "memory": "MEMORY"}
    for hta in theirs.to_dict("records"):
        mine = ours[hta["rank"], hta["name"]]
        assert purposes[mine["purpose"]] == hta["kernel_type"]
        for part in ("sum", "max", "min", "mean"):
            wanted = pytest.approx(hta[f"{part} (us)"], abs=max(off, 1e-9), rel=0)
            assert mine[f"{part}_ns"] / 1e3 == wanted, part
        assert mine["stddev_ns"] / 1e3 == pytest.approx(hta["stddev"], abs=1e-2)


def test_what_ran_at_once_is_that_of_hta(both: tuple[Run, Any, float]) -> None:
    """HTA sums over the ranks, and writes `A overlapping B` where we write `a + b`."""
    run, (_, _, (theirs, _)), off = both
    ours: dict[str, float] = {}
    for row in run.kernel_breakdown(run.steps[:-1]).by_purpose.to_pylist():
        name = row["running"].replace("compute", "computation").upper()
        name = name.replace(" + ", " overlapping ")
        ours[name] = ours.get(name, 0) + row["duration_ns"] / 1e3
    found = dict(zip(theirs["kernel_type"], theirs["sum"], strict=True))
    assert ours.keys() == found.keys()
    for name, value in ours.items():
        if off:  # here HTA cuts each stretch down to whole µs, whatever it is told
            assert 0.9 * value < found[name] <= value, name
        else:
            assert value == found[name], name


def test_two_things_that_hta_takes_in_and_we_leave_out(tmp_path: Path) -> None:
    """A wait of the host for the device that CUPTI lists with a stream, and kernels that were
    launched before the first step: of both, HTA lets the device not be idle.

    Ours: gemm 10-20 and 60-70 of step 0, the only one but for the last: 60, of which idle 40.
    """
    toy = Toy(0, 1)
    toy.kernel(GEMM, 1, 2, 5)
    toy.step(0, 10, 80)
    toy.kernel(GEMM, 10, 10, 10)
    toy.kernel(GEMM, 11, 60, 10)
    synchronization = {"stream": 7, "device": 0, "correlation": 3}
    toy.events.append(
        {"ph": "X", "cat": "cuda_sync", "name": "Stream Synchronize", "pid": 0, "tid": 7}
        | {"ts": 20, "dur": 15, "args": synchronization}
    )
    toy.step(1, 90, 50)
    toy.kernel(GEMM, 91, 95, 5)
    for rank in range(3):
        toy.facts["distributedInfo"]["rank"] = rank
        toy.write(tmp_path / f"rank{rank}.json")
    (theirs, *_) = _hta(tmp_path)
    hta = theirs.to_dict("records")[0]

    ours = open_run(tmp_path).temporal_breakdown([0]).ranks.to_pylist()[0]
    assert (ours["kernel_time_ns"], ours["idle_ns"]) == (60_000, 40_000)
    assert (hta["kernel_time(us)"], hta["idle_time(us)"]) == (68, 28)
