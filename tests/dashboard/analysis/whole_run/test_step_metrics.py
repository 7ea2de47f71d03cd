"""Numbers per step: those of the paper example, and the same as the analyses say for all steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.whole_run.step_metrics import LABELS, METRICS, step_metrics
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, write_run
from tests.test_repo.markdown import ROOT

SAMPLES = ROOT / "sample_traces"


def values(path: Path, step: int) -> dict[tuple[str, ...], float]:
    table = step_metrics(open_run(path)).table
    return {
        (row["metric"], *(row[label] for label in LABELS if row[label] is not None)): row["value"]
        for row in table.to_pylist()
        if row["step"] == step
    }


def test_a_step_on_paper(tmp_path: Path) -> None:
    """p = 3, m = 2, F = 10, B = 20 µs; the step is 130 µs. Each rank computes 2·10 + 2·20 = 60 and
    its optimizer takes 2. The pipeline's window is 124 (until the last backward ends), so three
    ranks idle 3·124 - 3·60 = 192 of 372. Messages are of 4,000 bytes and take 1 µs each once both
    ends are there: 4e9 B/s.
    """
    found = values(write_pipeline(tmp_path / "run", steps=2), step=1)
    us = 1e-6
    assert found["step_time_seconds",] == pytest.approx(130 * us)
    assert found["time_seconds", "compute"] == pytest.approx(60 * us)
    assert found["time_seconds", "optimizer"] == pytest.approx(2 * us)
    assert found["work_seconds", "0"] == pytest.approx(62 * us)
    assert found["bubble_fraction_of_window", "pipeline"] == pytest.approx(192 / 372)
    assert found["bubble_over_ideal", "pipeline"] == pytest.approx(192 / 180)
    # Waits of the eight messages: 11, 0, 22, 0, 22, 10, 54, 10 = 129 over three ranks; all exposed.
    assert found["communication_seconds", "pp"] == pytest.approx(129 / 3 * us)
    assert found["exposed_communication_seconds", "pp"] == pytest.approx(129 / 3 * us)
    categories = [v for key, v in found.items() if key[0] == "time_seconds"]
    assert sum(categories) == pytest.approx(130 * us)
    # Two messages wait for a receiver that comes only when the data are there: no time of the link.
    assert found["busbw_bytes_per_second", "pp:0-2", "p2p"] == pytest.approx(4e9)
    assert {key[0] for key in found} == set(METRICS)


def test_a_rank_that_does_not_communicate_counts_in_the_mean(tmp_path: Path) -> None:
    """A step of 100 ns; ranks 0 and 2 tie their embeddings, for 30 ns: 60 over three ranks."""
    window = Event(start=0, duration=100, kind="step")
    tied = Event(start=50, duration=30, kind="collective", name="all_reduce", group="embd:0,2")
    run = write_run(tmp_path / "run", {0: [window, tied], 1: [window], 2: [window, tied]})
    found = values(run, step=0)
    for metric in ("communication_seconds", "exposed_communication_seconds"):
        assert found[metric, "other"] == pytest.approx(20e-9)
    assert found["time_seconds", "comm:other"] == pytest.approx(20e-9)


@pytest.mark.parametrize("name", ["pp2-tp2-1f1b", "pp4-1f1b-slow-stage"])
def test_one_step_alone_agrees_with_the_analyses(name: str) -> None:
    run = open_run(SAMPLES / name)
    (step,) = chosen = run.steps[5:6]
    found = values(run.path, step)
    accounting = run.accounting(chosen)
    ranks = len(run.ranks)
    for category in ("compute", "comm:pp", "idle"):
        mine = [r["duration"] for r in accounting.table.to_pylist() if r["category"] == category]
        assert found["time_seconds", category] == pytest.approx(sum(mine) / ranks / 1e9)
    for row in run.bandwidth(chosen).summary.to_pylist():
        key = (row["group"], row["op"])
        assert found["busbw_bytes_per_second", *key] == pytest.approx(row["busbw_skew_free"] * 1e9)
        assert found["busbw_seen_bytes_per_second", *key] == pytest.approx(row["busbw_seen"] * 1e9)
        assert found["arrival_skew_seconds", *key] == pytest.approx(row["skew_ns_mean"] / 1e9)
    (ratio,) = run.bubbles(chosen).steps["bubble_fraction_of_window"].to_pylist()[:1]
    pipelines = [v for key, v in found.items() if key[0] == "bubble_fraction_of_window"]
    assert ratio in pipelines


def test_no_steps_no_numbers(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run"))
    assert step_metrics(run, []).table.num_rows == 0
