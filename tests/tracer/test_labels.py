"""What a user can mark, count, pause and sample, by arguments and by the environment."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.reading import rows
from tracer import Kind, Tracer, UsageError, Window, spans


def _counters(run: Path) -> list[dict[str, Any]]:
    with pa.OSFile(str(run / "rank-00000.counters.arrows")) as source:
        found: list[dict[str, Any]] = pa.ipc.open_stream(source).read_all().to_pylist()
    return [row for row in found if not row["name"].startswith("recorder.")]


def test_a_span_is_a_block_or_a_decorator(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[]) as t:

        @t.span("load", kind=Kind.DATA)
        def load(number: int) -> int:
            """Loads."""
            return number + 1

        @t.span
        def augment(number: int) -> int:
            return 0 if number == 0 else augment(number - 1)

        assert (load(1), load.__doc__, augment.__name__) == (2, "Loads.", "augment")
        assert augment(2) == 0
        with t.span("outer"), t.span("outer"):
            pass
    seen = [(row["kind"], row["name"].rpartition(".")[2]) for row in rows(tmp_path / "run", 0)]

    assert seen == [("data", "load"), *[("user", "augment")] * 3, *[("user", "outer")] * 2]


def test_spans_of_one_name_nest_and_keep_their_own_start(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[]) as t, t.span("a"), t.span("a"):
        pass
    outer, inner = rows(tmp_path / "run", 0)

    assert outer["start"] <= inner["start"]
    assert outer["start"] + outer["duration"] >= inner["start"] + inner["duration"]


def test_a_decorated_function_works_before_and_after_the_recording(tmp_path: Path) -> None:
    t = Tracer(tmp_path / "run", collectors=[])

    @t.span("work")
    def work() -> int:
        return 3

    assert work() == 3
    with t:
        assert work() == 3
    assert work() == 3
    assert len(rows(tmp_path / "run", 0, name="work")) == 1


def test_counters_keep_their_values_in_order(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the tensor case needs torch")
    with Tracer(tmp_path / "run", collectors=[]) as t:
        t.counter("loss", 2.5)
        t.counter("loss", torch.tensor(1.5))
        t.counter("throughput/tokens_per_s", 7)
    seen = [(row["name"], row["value"]) for row in _counters(tmp_path / "run")]

    assert seen == [("loss", 2.5), ("loss", 1.5), ("throughput/tokens_per_s", 7.0)]


def test_counters_whose_names_count_something_up_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer.writer._MOST_COUNTER_NAMES", 5)
    with Tracer(tmp_path / "run", collectors=[], flush_interval_s=0.01) as t:
        for number in range(12):
            t.counter(f"loss_{number}", number)
            time.sleep(0.03)
    seen = [(row["name"], row["value"]) for row in _counters(tmp_path / "run")]

    assert seen == [(f"loss_{number}", float(number)) for number in range(12)]


def test_a_counter_never_waits_for_a_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`meta` stands for a device here: a value there cannot be read without asking it."""
    torch = pytest.importorskip("torch", reason="needs a tensor that is not on the CPU")
    with Tracer(tmp_path / "run", collectors=[]) as t:
        for _ in range(3):
            t.counter("loss", torch.empty((), device="meta"))
        t.counter("loss", 1.0)
    said = capsys.readouterr().err

    assert [row["value"] for row in _counters(tmp_path / "run")] == [1.0]
    assert said.count("rankscope:") == 1
    assert "value.item()" in said


def test_a_counter_that_is_no_number_ends_the_tracing_and_not_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracer(tmp_path / "run", collectors=[]) as t:
        t.counter("loss", "low")  # type: ignore[arg-type]
        with t.span("goes on"):
            pass

    assert "tracing stopped" in capsys.readouterr().err


def test_one_step_out_of_n_is_recorded(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[], every=3) as t:
        for _ in range(8):
            with t.span("work"):
                pass
            t.step()
    seen = [(row["kind"], row["step"]) for row in rows(tmp_path / "run", 0)]

    assert sorted(seen) == sorted((kind, step) for kind in ("user", "step") for step in (0, 3, 6))


def test_a_pause_between_steps_belongs_to_neither(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[]) as t:
        t.step()
        with t.pause():
            with t.span("evaluate"):
                pass
            resumed = t.recorder.clock()
        with t.span("work"):
            pass
        t.step()
    first, second = rows(tmp_path / "run", 0, kind="step")

    assert (first["step"], second["step"]) == (0, 1)
    assert second["start"] >= resumed
    assert rows(tmp_path / "run", 0, name="evaluate") == []
    assert len(rows(tmp_path / "run", 0, name="work", step=1)) == 1


def test_a_step_with_a_pause_in_its_middle_is_left_out(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[]) as t:
        for number in range(3):
            with t.span("work"):
                pass
            if number == 1:
                with t.pause(), t.pause():
                    pass
            t.step()

    assert [row["step"] for row in rows(tmp_path / "run", 0, kind="step")] == [0, 2]
    assert [row["step"] for row in rows(tmp_path / "run", 0, name="work")] == [0, 1, 2]


def test_a_launcher_switches_recording_on_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracer(collectors=[]) as silent, silent.span("nothing"):
        silent.counter("loss", 1.0)
        silent.step()
    assert not silent.enabled

    monkeypatch.setenv("RANKSCOPE_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("RANKSCOPE_EVERY", "2")
    monkeypatch.setenv("RANKSCOPE_KERNELS", "100:3")
    with Tracer(collectors=[]) as t:
        assert t.recorder.kernels == Window(every=100, steps=3)
        for _ in range(3):
            t.step()

    assert [row["step"] for row in rows(tmp_path / "run", 0)] == [0, 2]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RANKSCOPE_EVERY", "often", "RANKSCOPE_EVERY is 'often', wanted a number"),
        ("RANKSCOPE_EVERY", "0", "RANKSCOPE_EVERY is 0.0, wanted more than 0"),
        ("RANKSCOPE_FLUSH_S", "-1", "RANKSCOPE_FLUSH_S is -1.0, wanted more than 0"),
        ("RANKSCOPE_KERNELS", "yes", "RANKSCOPE_KERNELS is 'yes', wanted <every>:<steps>"),
    ],
)
def test_an_environment_that_makes_no_sense_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError) as error:
        Tracer(tmp_path / "run")

    assert message in str(error.value)


def test_windows_of_steps() -> None:
    window = Window(every=5, steps=2, first=1)

    assert [step for step in range(13) if window.holds(step)] == [1, 2, 6, 7, 11, 12]
    with pytest.raises(UsageError, match="every > steps"):
        Window(every=2, steps=2)


def test_names_that_count_something_up_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spans, "_MOST_CLASSES", 3)
    with Tracer(tmp_path / "run", collectors=[]) as t:
        for number in range(6):
            with t.span(f"batch {number}"):
                pass
        with t.span("batch 1"):
            pass
        with t.span("load", kind=Kind.DATA):
            pass

    names = [row["name"] for row in rows(tmp_path / "run", 0)]
    assert names == ["batch 0", "batch 1", "batch 2", *["(other)"] * 3, "batch 1", "load"]
    assert capsys.readouterr().err.count("spans have more than 3 names") == 1


def test_threads_without_end_share_the_last_lane(tmp_path: Path) -> None:
    """A record holds the number of its lane in two bytes."""

    def work(t: Tracer, number: int) -> None:
        with t.span("work"):
            threads.append(number)

    threads: list[int] = []
    with Tracer(tmp_path / "run", collectors=[]) as t:
        most = t.recorder.lanes._most = len(t.recorder.lanes.words) + 3
        for number in range(6):
            thread = threading.Thread(target=work, args=(t, number), name=f"worker {number}")
            thread.start()
            thread.join()

    lanes = [row["lane"] for row in rows(tmp_path / "run", 0, name="work")]
    assert lanes == ["host:worker 0", "host:worker 1", *["host:(other)"] * 4]
    assert most < 1 << 15
