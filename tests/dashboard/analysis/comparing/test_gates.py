"""Gates for CI: what they read, when they fail, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.comparing.compare import Comparison
from dashboard.analysis.comparing.gates import Gate, parse_gate, violation
from tests.dashboard.analysis.comparing.test_compare import plain_run
from tests.support.pipeline_toy import write_pipeline
from tracer.errors import UsageError


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """100 us become 130: compute 60 to 80, idle 40 to 50; nothing varies but the warm-up."""
    place = tmp_path_factory.mktemp("gates")
    a = plain_run(place / "a", [900, 100, 100, 100], compute_us=60)
    return a.compare(plain_run(place / "b", [900, 130, 130, 130], compute_us=80))


@pytest.mark.parametrize(
    ("said", "metric", "limit", "unit"),
    [
        ("step_time>2%", "step_time", 2, "%"),
        (" comm:pp > 1.5 ms ", "comm:pp", 1.5, "ms"),
        ("bubble_ratio>0.02", "bubble_ratio", 0.02, ""),
    ],
)
def test_gates_are_read(said: str, metric: str, limit: float, unit: str) -> None:
    assert parse_gate(said) == Gate(metric=metric, limit=limit, unit=unit)


@pytest.mark.parametrize("said", ["step_time", "step_time<2%", "step_time>2s", "step_time>-1%"])
def test_what_is_no_gate_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match="write WHAT>LIMIT"):
        parse_gate(said)


@pytest.mark.parametrize(
    ("said", "fails"),
    [
        ("step_time>29%", "b: step_time grew by 30.00 %, more than 29 %"),
        ("step_time>31%", None),
        ("compute>0.019ms", "b: compute grew by 0.02 ms, more than 0.019 ms"),
        ("compute>0.021ms", None),
        ("optimizer>0%", None),
    ],
)
def test_relative_and_absolute_limits_on_paper(
    slower: Comparison, said: str, fails: str | None
) -> None:
    assert violation(slower, parse_gate(said)) == fails


def test_what_became_faster_passes(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [9, 130, 130], compute_us=80)
    found = a.compare(plain_run(tmp_path / "b", [9, 100, 100], compute_us=60))
    assert violation(found, parse_gate("step_time>0%")) is None


def test_within_chance_passes(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [9, 100, 160, 90, 150], compute_us=60)
    found = a.compare(plain_run(tmp_path / "b", [9, 170, 100, 160, 110], compute_us=60))
    total = found.categories.to_pylist()[0]
    assert total["delta_ms"] == pytest.approx(0.010)
    assert violation(found, parse_gate("step_time>0%")) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("speed>2%", "no 'speed' here; there are step_time, compute, .*idle$"),
        ("step_time>2", "of what"),
        ("bubble_ratio>0.1", "no 'bubble_ratio' here"),
    ],
)
def test_what_cannot_be_asked(slower: Comparison, said: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        violation(slower, parse_gate(said))


def test_a_gate_that_cannot_be_judged_does_not_pass(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [9, 100], compute_us=60)
    found = a.compare(plain_run(tmp_path / "b", [9, 200], compute_us=60))
    with pytest.raises(UsageError, match="too few steps"):
        violation(found, parse_gate("step_time>2%"))


def test_the_bubble_ratio_has_no_ms(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "a", steps=4))
    found = run.compare(run)
    assert found.ratios["a"].to_pylist() == pytest.approx([192 / 372])
    assert violation(found, parse_gate("bubble_ratio>0.001")) is None
    with pytest.raises(UsageError, match="a ratio has no ms"):
        violation(found, parse_gate("bubble_ratio>1ms"))
