"""The What-if page in a real browser: on a recorded run with a slow stage."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboard import open_run
from dashboard.analysis.replay.scenarios import balanced_stages, faster_communication, together
from tests.browser.conftest import Tab
from tests.browser.reading import traces

pytestmark = pytest.mark.browser

SAMPLE = "pp4-1f1b-slow-stage"


def _number(sample_runs: list[Path]) -> int:
    return [path.name for path in sample_runs].index(SAMPLE) + 1


def test_the_bars_are_what_the_replay_saves(tab: Tab, sample_runs: list[Path]) -> None:
    found = open_run(next(path for path in sample_runs if path.name == SAMPLE)).what_if()
    (bars,) = traces(tab.open(f"/whatif?run={_number(sample_runs)}"), "whatif-savings").values()
    assert bars["y"][::-1] == [prediction.scenario for prediction in found.predictions]
    expected = [prediction.saved_ns / 1e6 for prediction in found.predictions]
    assert bars["x"][::-1] == pytest.approx(expected)


def test_choices_are_put_together_and_survive_a_reload(tab: Tab, sample_runs: list[Path]) -> None:
    page = tab.open(f"/whatif?run={_number(sample_runs)}&theme=dark")
    assert page.locator(".tile").count() == 0
    page.locator("#whatif-balance").select_option("1")
    page.locator(".tile").first.wait_for()
    page.get_by_role("slider", name="pp links").press("End")  # to the right end: free
    page.get_by_text("balanced stages, pp communication free").wait_for()
    assert "balance=1" in page.url
    run = open_run(next(path for path in sample_runs if path.name == SAMPLE))
    both = together([balanced_stages(), faster_communication("pp", float("inf"))])
    step_ms = run.what_if([both]).predictions[0].step_ns / 1e6
    page.reload()
    assert page.locator(".tile-value").first.inner_text().split() == [f"{step_ms:.0f}", "ms"]
    boxes = traces(page, "whatif-step")
    assert len(boxes["forward"]["x"]) == 2 * 4 * 8  # measured and predicted, 4 stages, m = 8
    page.get_by_role("link", name="Back to what was recorded").click()
    page.locator(".tile").first.wait_for(state="detached")


def test_another_schedule_with_more_microbatches_is_drawn_beside_the_measured(
    tab: Tab, sample_runs: list[Path]
) -> None:
    page = tab.open(f"/whatif?run={_number(sample_runs)}&m=12")
    page.locator("#whatif-plan").select_option("ScheduleGPipe")
    page.get_by_text("p 4, m 12").wait_for()
    page.locator("#whatif-plan option:checked").get_by_text("GPipe").wait_for(state="attached")
    page.locator(".tile").filter(has_text="GPipe").wait_for()
    assert len(traces(page, "whatif-step")["forward"]["x"]) == 4 * (8 + 12)


def test_a_plan_that_cannot_be_says_why(tab: Tab, sample_runs: list[Path]) -> None:
    page = tab.open(f"/whatif?run={_number(sample_runs)}&plan=ScheduleInterleaved1F1B&m=9")
    expect(page.locator(".notice")).to_contain_text("of which m=9 is no multiple")


def test_values_that_are_no_choice_do_nothing(tab: Tab, sample_runs: list[Path]) -> None:
    query = "stage=99&takes=1&comm_pp=-3&comm_xx=2&m=0&plan=no"
    page = tab.open(f"/whatif?run={_number(sample_runs)}&{query}")
    page.locator("#whatif-savings").wait_for()
    assert page.locator(".tile").count() == 0


def test_other_plans_and_layouts_are_listed_with_the_recorded_one(
    tab: Tab, sample_runs: list[Path]
) -> None:
    page = tab.open(f"/whatif?run={_number(sample_runs)}")
    expect(page.locator(".data-table")).to_have_count(2)
    plans, layouts = page.locator(".data-table").all()
    assert plans.locator("tbody tr").first.inner_text().split()[:3] == ["1F1B", "8", "1"]
    assert "ZBVZeroBubble" in plans.inner_text()
    assert layouts.locator("tbody tr").first.inner_text().startswith("p4 t1 d1 m8 1F1B")
    (cells,) = traces(page, "whatif-layouts").values()
    assert (cells["y"], cells["x"]) == (["1", "2", "4"], ["1", "2", "4"])
