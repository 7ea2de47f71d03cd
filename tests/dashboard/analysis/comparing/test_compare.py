"""Comparison on paper: the same pipeline with a longer idle tail, and with itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.compare import halves, marks_nothing
from dashboard import Run, open_run
from dashboard.analysis.comparing.compare import STEP_TIME
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tests.test_repo.markdown import ROOT
from tracer.errors import UsageError

STEADY_SAMPLES = ("pp2-tp2-1f1b", "pp4-1f1b-balanced", "pp4-gpipe")


def plain_run(path: Path, lengths_us: list[int], *, compute_us: int, ranks: int = 1) -> Run:
    """Steps of these lengths, each with one forward of `compute_us` and otherwise idle."""
    rows, at = [], 0
    for step, length in enumerate(lengths_us):
        rows.append(Event(start=at, duration=length, kind="step", step=step))
        rows.append(Event(start=at, duration=compute_us, kind="forward", step=step))
        at += length
    facts = {rank: RankFacts(coordinates={"dp": rank}) for rank in range(ranks)}
    return open_run(write_run(path, dict.fromkeys(range(ranks), rows), facts=facts, scale=1000))


def test_differences_on_paper(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [900, 100, 110, 90], compute_us=60)
    b = plain_run(tmp_path / "b", [900, 130, 120, 140], compute_us=80)
    rows = {row["category"]: row for row in a.compare(b).categories.to_pylist()}
    # Step 0 is warm-up. Means: A 100 us = 60 compute + 40 idle, B 130 us = 80 + 50.
    assert rows[STEP_TIME]["a_ms"] == pytest.approx(0.100)
    assert rows[STEP_TIME]["b_ms"] == pytest.approx(0.130)
    assert rows[STEP_TIME]["delta_ms"] == pytest.approx(0.030)
    assert rows["compute"]["delta_ms"] == pytest.approx(0.020)
    assert rows["idle"]["delta_ms"] == pytest.approx(0.010)
    # Compute is constant, so its interval has no width; three steps say little of the step time.
    assert (rows["compute"]["low_ms"], rows["compute"]["high_ms"]) == pytest.approx((0.02, 0.02))
    total = rows[STEP_TIME]
    assert total["low_ms"] < 0.0 < 0.030 < total["high_ms"]
    assert total["high_ms"] - 0.030 == pytest.approx(0.030 - total["low_ms"])
    assert (rows["compute"]["significant"], total["significant"]) == (True, False)


def test_headlines_on_paper(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [900, 100, 110, 90], compute_us=60)
    b = plain_run(tmp_path / "b", [900, 130, 120, 140], compute_us=80)
    # 100 us become 130: compute grows by 20, idle by 10. The other way it shrinks by 30 of 130.
    assert (a.compare(b).relative(), a.compare(b).largest()) == (pytest.approx(0.3), "compute")
    assert b.compare(a).relative() == pytest.approx(-30 / 130)
    nothing = plain_run(tmp_path / "c", [], compute_us=0)
    assert (nothing.compare(a).relative(), nothing.compare(a).largest()) == (None, None)


def test_categories_add_up_to_the_step_time(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "a", steps=4))
    rows = run.compare(plain_run(tmp_path / "b", [50, 60, 70], compute_us=9)).categories.to_pylist()
    assert rows[0]["category"] == STEP_TIME
    for side in ("a_ms", "b_ms", "delta_ms"):
        assert sum(row[side] for row in rows[1:]) == pytest.approx(rows[0][side])


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "a", steps=4))
    comparison = run.compare(run)
    assert not comparison.significant()
    assert {row["delta_ms"] for row in comparison.categories.to_pylist()} == {0.0}


def test_one_step_gives_no_interval_and_says_so(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [100], compute_us=60)
    comparison = a.compare(plain_run(tmp_path / "b", [100, 110, 120], compute_us=60))
    assert comparison.categories.to_pylist()[0]["low_ms"] is None
    assert not comparison.significant()
    assert any("no interval" in note for note in comparison.notes)


def test_other_world_sizes_compare_as_a_whole_and_say_so(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [9, 100, 100], compute_us=60)
    b = plain_run(tmp_path / "b", [9, 80, 80], compute_us=60, ranks=3)
    comparison = a.compare(b)
    assert comparison.categories.to_pylist()[0]["delta_ms"] == pytest.approx(-0.020)
    assert "world size: 1 → 3" in map(str, comparison.differences)
    assert any("matched by" in note or "means over all ranks" in note for note in comparison.notes)


def test_steps_narrow_the_comparison(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [900, 100, 110, 200, 210], compute_us=60)
    b = plain_run(tmp_path / "b", [900, 100, 110, 300, 310], compute_us=60)
    found = a.compare(b, range(3, 5))
    assert (found.steps_a, found.steps_b) == ((3, 4), (3, 4))
    assert found.categories.to_pylist()[0]["delta_ms"] == pytest.approx(0.100)
    assert not any("warm-up" in note for note in found.notes)
    # Warm-up stays out also where the range begins with it, unless there is nothing else.
    assert a.compare(b, range(3)).steps_a == (1, 2)
    alone = a.compare(b, [0])
    assert alone.steps_a == (0,)
    assert "a: step 0 is warm-up, but there is no other" in alone.notes


def test_the_steps_that_both_runs_have_are_compared(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [900, 100, 100, 100, 500], compute_us=60)
    b = plain_run(tmp_path / "b", [900, 120, 120, 120], compute_us=60)
    found = a.compare(b)
    assert (found.steps_a, found.steps_b) == ((1, 2, 3), (1, 2, 3))
    assert "3 steps that both runs have are compared" in found.notes
    apart = a.compare(plain_run(tmp_path / "c", [900, 130], compute_us=60))
    assert (apart.steps_a, apart.steps_b) == ((1, 2, 3, 4), (1,))
    assert "the runs share 1 steps: each one's own are compared" in apart.notes


def test_operations_add_up_and_name_the_stage_that_changed(tmp_path: Path) -> None:
    a, b = (open_run(ROOT / "sample_traces" / f"pp4-1f1b-{n}") for n in ("balanced", "slow-stage"))
    found = a.compare(b)
    total = found.categories.to_pylist()[0]
    rows = found.operations.to_pylist()
    assert sum(row["delta_ms"] for row in rows) == pytest.approx(total["delta_ms"])
    compute = [row for row in rows if row["category"] == "compute" and row["significant"]]
    # Stage 2 takes half as long again: 8 x 5 ms more forward, twice that backward, over 4 ranks.
    assert [(row["kind"], row["stage"]) for row in compute[:2]] == [("backward", 2), ("forward", 2)]
    assert [row["delta_ms"] for row in compute[:2]] == pytest.approx([20, 10], rel=0.1)


def test_operations_without_common_stages_have_no_stage() -> None:
    a, b = (open_run(ROOT / "sample_traces" / name) for name in ("pp4-gpipe", "pp2-tp2-1f1b"))
    found = a.compare(b)
    assert set(found.operations["stage"].to_pylist()) == {None}
    assert "mesh: pp 4 × tp 1 → pp 2 × tp 2" in map(str, found.differences)
    assert any("matched by role" in note or "over all ranks" in note for note in found.notes)


def test_an_operation_is_marked_only_where_its_category_is() -> None:
    a, b = (open_run(ROOT / "sample_traces" / name) for name in ("pp4-1f1b-balanced", "pp4-gpipe"))
    found = a.compare(b)
    marked = {row["category"] for row in found.categories.to_pylist() if row["significant"]}
    assert {r["category"] for r in found.operations.to_pylist() if r["significant"]} <= marked


@pytest.mark.parametrize("name", STEADY_SAMPLES)
def test_the_halves_of_a_steady_recorded_run_do_not_differ(name: str) -> None:
    assert marks_nothing(halves(open_run(ROOT / "sample_traces" / name)))


def test_a_recorded_run_that_speeds_up_differs_from_its_beginning() -> None:
    run = open_run(ROOT / "sample_traces" / "pp4-1f1b-slow-stage")
    found = halves(run, relevant=0.01)
    # Its steps fall from 476 to 464 ms, without going back.
    assert found.significant()
    total = found.categories.to_pylist()[0]
    assert -12 < total["delta_ms"] < -7
    assert total["high_ms"] < 0
    # That is beyond chance, but less than 2 %: another recording may differ by as much.
    assert not halves(run).significant()


def test_repeats_of_a_widen_what_counts_as_chance_on_paper(tmp_path: Path) -> None:
    lengths = {"a": 100, "a2": 110, "a3": 90, "b": 125, "far": 200}
    runs = {
        name: plain_run(tmp_path / name, [900, *[length] * 4], compute_us=60)
        for name, length in lengths.items()
    }
    a, repeats = runs["a"], [runs["a2"], runs["a3"]]
    assert a.compare(runs["b"]).significant()
    found = a.compare(runs["b"], repeats=repeats)
    total = found.categories.to_pylist()[0]
    # Recordings of A: 100 +- 10, so b - a has the standard error 10·sqrt(1 + 1/3) = 11.5 us, and
    # Student's t of 2 degrees of freedom is 4.30: 25 +- 50 us.
    assert (total["a_ms"], total["delta_ms"]) == pytest.approx((0.100, 0.025))
    assert total["high_ms"] - total["delta_ms"] == pytest.approx(0.0497, rel=0.05)
    assert not found.significant()
    assert any("3 recordings" in note for note in found.notes)
    # 100 us more is beyond that, and so is compute, which no repeat changed.
    far = a.compare(runs["far"], repeats=repeats).categories.to_pylist()[0]
    assert far["low_ms"] > 0


def test_a_recording_counts_once(tmp_path: Path) -> None:
    a, other, b = (plain_run(tmp_path / n, [9, 100, 100], compute_us=60) for n in "acb")
    for repeats in ([a], [other, other], [b]):
        with pytest.raises(UsageError, match="given twice"):
            a.compare(b, repeats=repeats)
    assert a.compare(b, repeats=[other]).categories.num_rows
    # Without repeats a run may be compared with itself.
    assert a.compare(a).categories.num_rows


def test_what_is_damaged_is_said(tmp_path: Path) -> None:
    whole = open_run(write_pipeline(tmp_path / "whole", steps=4))
    damaged = write_pipeline(tmp_path / "damaged", steps=4)
    (damaged / "rank-00001.arrows").unlink()
    notes = whole.compare(open_run(damaged)).notes
    (said,) = (note for note in notes if "rank-00001.arrows" in note)
    assert said.startswith("damaged: rank-00001.arrows: missing")
    assert not any(note.startswith("whole: rank") for note in notes)


def test_small_differences_are_not_marked_on_paper(tmp_path: Path) -> None:
    """Of steps of 1,000 ± 2 us, 25 more are over 2 %, 10 are beyond chance but less."""
    lengths = {"a": 1000, "more": 1025, "bit": 1010}
    a, more, bit = (
        plain_run(tmp_path / name, [9000, *[length - 2, length + 2] * 10], compute_us=600)
        for name, length in lengths.items()
    )
    assert a.compare(more).significant()
    assert a.compare(bit).categories.to_pylist()[0]["low_ms"] > 0
    assert not a.compare(bit).significant()
    assert a.compare(bit, relevant=0.009).significant()
    assert a.compare(bit, relevant=0).relevant == 0
    assert any("and 2 % of A's step or more" in note for note in a.compare(bit).notes)
