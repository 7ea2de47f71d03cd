"""The sample traces are what their README says: real, small, complete, and of the right story."""

from __future__ import annotations

import importlib.util
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import pytest

from dashboard import open_run
from tests.test_repo.markdown import ROOT, tables

SAMPLES = ROOT / "sample_traces"
NAMES = ("pp4-1f1b-balanced", "pp4-1f1b-slow-stage", "pp4-gpipe", "pp2-tp2-1f1b")
EACH = pytest.mark.parametrize("name", NAMES)
MAX_BYTES = 1_500_000
STEPS = 16
MICROBATCHES = 8
MESSAGE_BYTES = 32 * 128 * 4
"""32 rows of 128 float32."""


@pytest.fixture(scope="module")
def recorder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record", SAMPLES / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*_texts(key), *_texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def test_script_readme_and_folders_name_the_same_samples(recorder: ModuleType) -> None:
    listed = [row[0].strip("`") for row in tables((SAMPLES / "README.md").read_text())[0][1:]]
    recorded = {path.parent.name for path in SAMPLES.glob("*/run.json")}

    assert tuple(recorder.SAMPLES) == tuple(listed) == NAMES
    assert recorded == set(NAMES)


@EACH
def test_a_sample_is_small_and_holds_no_path_of_the_machine(name: str) -> None:
    files = list((SAMPLES / name).iterdir())

    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    texts = [t for file in files if file.suffix == ".json" for t in _texts(_json(file))]
    assert [text for text in texts if text.startswith(("/", "~"))] == []


@EACH
def test_a_sample_is_a_complete_real_recording(name: str) -> None:
    run = open_run(SAMPLES / name)

    assert run.problems == ()
    assert not run.meta.simulated
    assert run.ranks == (0, 1, 2, 3)
    assert run.steps == tuple(range(STEPS))
    assert all(facts.ended == "closed" and facts.dropped == 0 for facts in run.facts.values())


@EACH
def test_the_time_of_every_step_is_accounted_for_to_the_nanosecond(name: str) -> None:
    accounting = open_run(SAMPLES / name).accounting()

    sums: dict[tuple[int, int], int] = defaultdict(int)
    for row in accounting.table.to_pylist():
        sums[row["rank"], row["step"]] += row["duration"]
    windows = {
        (row["rank"], row["step"]): row["duration"] for row in accounting.windows.to_pylist()
    }
    assert len(windows) == 4 * STEPS
    assert sums == windows


def test_the_slow_stage_is_the_one_that_the_others_wait_for() -> None:
    stalls = open_run(SAMPLES / "pp4-1f1b-slow-stage").bubbles().stalls.to_pylist()

    caused: dict[int, int] = defaultdict(int)
    for row in stalls:
        if row["culprit_rank"] != row["rank"]:
            caused[row["culprit_rank"]] += row["stall_ns"]
    assert max(caused, key=lambda rank: caused[rank]) == 2


def test_the_slow_stage_costs_the_step_what_its_extra_work_implies() -> None:
    """1F1B repeats the slowest stage m times: 8 × (5 + 10) ms of extra sleep = 120 ms."""
    balanced = open_run(SAMPLES / "pp4-1f1b-balanced")
    compared = balanced.compare(open_run(SAMPLES / "pp4-1f1b-slow-stage"))

    step_time = compared.categories.to_pylist()[0]
    assert step_time["category"] == "step time"
    assert step_time["low_ms"] > 0
    assert step_time["delta_ms"] == pytest.approx(120, rel=0.2)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("pp4")])
def test_the_theory_of_four_stages_and_eight_microbatches(name: str) -> None:
    """GPipe and 1F1B, p = 4 and m = 8: (p-1)/(m+p-1) = 3/11 of the window, 3/8 over ideal."""
    bubbles = open_run(SAMPLES / name).bubbles()

    assert bubbles.theory is not None
    assert bubbles.theory.fraction_of_window == pytest.approx(3 / 11)
    assert bubbles.theory.over_ideal == pytest.approx(3 / 8)


@pytest.mark.parametrize("name", ["pp4-1f1b-balanced", "pp4-gpipe"])
def test_a_balanced_pipeline_comes_near_to_the_theory_and_not_below(name: str) -> None:
    steps = open_run(SAMPLES / name).bubbles().steps

    measured = steps["bubble_fraction_of_window"].to_pylist()
    assert min(measured) > 0.95 * 3 / 11
    assert median(measured) < 1.3 * 3 / 11


@pytest.mark.parametrize(
    ("name", "forwards"), [("pp4-1f1b-balanced", (4, 3, 2, 1)), ("pp4-gpipe", (8, 8, 8, 8))]
)
def test_forwards_before_the_first_backward(name: str, forwards: tuple[int, ...]) -> None:
    """GPipe runs all m; 1F1B one per stage from here to the end of the pipeline."""
    run = open_run(SAMPLES / name)
    for rank, expected in enumerate(forwards):
        kinds = (
            run.events(ranks=[rank], steps=[5], kinds=["forward", "backward"])
            .sort_by("start")["kind"]
            .to_pylist()
        )
        assert kinds.index("backward") == expected
        assert len(kinds) == 2 * MICROBATCHES


def test_the_pipeline_moves_one_message_per_microbatch_boundary_and_direction() -> None:
    """3 boundaries × 8 microbatches × 2 directions = 48 messages of 16 KiB in a step."""
    run = open_run(SAMPLES / "pp4-1f1b-balanced")
    calls = run.sql(
        "select kind, bytes, count(*) as n from events "
        "where step = 5 and kind in ('send', 'recv') and lane like 'host:%' group by all"
    ).to_arrow()

    assert sorted(calls.to_pylist(), key=lambda row: row["kind"]) == [
        {"kind": "recv", "bytes": MESSAGE_BYTES, "n": 48},
        {"kind": "send", "bytes": MESSAGE_BYTES, "n": 48},
    ]


def test_tensor_parallel_groups_and_dimensions() -> None:
    summary = open_run(SAMPLES / "pp2-tp2-1f1b").bandwidth().summary.to_pylist()

    by_group = {(row["dim"], row["group"]) for row in summary}
    assert {("tp", "tp:0-1"), ("tp", "tp:2-3"), ("pp", "pp:0,2"), ("pp", "pp:1,3")} <= by_group
    assert all(row["incomplete"] == 0 for row in summary)


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
