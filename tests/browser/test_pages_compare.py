"""The Compare page in a real browser, on recorded runs of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboard import open_run
from dashboard.analysis.comparing.compare import step_samples
from tests.browser.conftest import Tab
from tests.browser.reading import saved_table, table, traces

pytestmark = pytest.mark.browser

A, B = "pp4-1f1b-balanced", "pp4-1f1b-slow-stage"


@pytest.fixture
def query(sample_runs: list[Path]) -> str:
    names = [path.name for path in sample_runs]
    return f"run={names.index(A) + 1}&vs={names.index(B) + 1}"


def test_the_slow_stage_shows_as_compute_and_as_waiting(
    tab: Tab, sample_runs: list[Path], query: str
) -> None:
    page = tab.open(f"/compare?{query}")
    expect(page.locator("#compare-b option:checked")).to_have_text(B)
    runs = {path.name: open_run(path) for path in sample_runs}
    expected = runs[A].compare(runs[B]).categories.to_pylist()
    assert [float(row["delta_ms"]) for row in saved_table(page, "compare")] == pytest.approx(
        [row["delta_ms"] for row in expected]
    )
    rows = {row[0]: row for row in table(page)}
    assert rows["step time"][3] == f"{expected[0]['delta_ms']:+.2f}"
    (bars,) = traces(page, "compare-differences").values()
    changed = dict(zip(bars["y"], bars["x"], strict=True))
    assert min(changed["compute"], changed["pipeline communication"]) > 10
    assert abs(changed["optimizer"]) < 1


def test_the_second_run_is_in_the_address_and_survives_a_reload(tab: Tab, query: str) -> None:
    page = tab.open(f"/compare?{query}")
    page.select_option("#compare-b", label="pp4-gpipe")
    page.wait_for_url(lambda url: query not in url)
    page.reload()
    expect(page.locator("#compare-b option:checked")).to_have_text("pp4-gpipe")


def test_notes_say_what_was_left_out_and_what_differs(tab: Tab, query: str) -> None:
    notes = tab.open(f"/compare?{query}").locator("li")
    expect(notes.filter(has_text="step 0 is left out as warm-up")).to_have_count(2)
    expect(notes.filter(has_text="--slow-stage 2")).to_have_count(1)


def test_runs_that_cannot_be_matched_rank_by_rank_are_compared_all_the_same(
    tab: Tab, sample_runs: list[Path]
) -> None:
    names = [path.name for path in sample_runs]
    page = tab.open(f"/compare?run={names.index(A) + 1}&vs={names.index('pp2-tp2-1f1b') + 1}")
    assert "tensor-parallel communication" in {row[0] for row in table(page)}


def test_the_steps_field_narrows_the_comparison(
    tab: Tab, sample_runs: list[Path], query: str
) -> None:
    page = tab.open(f"/compare?{query}&steps=5-9")
    runs = {path.name: open_run(path) for path in sample_runs}
    expected = runs[A].compare(runs[B], range(5, 10)).categories.to_pylist()[0]
    rows = {row[0]: row for row in table(page)}
    assert rows["step time"][3] == f"{expected['delta_ms']:+.2f}"


def test_operations_and_the_waterfall_name_the_slow_stage(tab: Tab, query: str) -> None:
    page = tab.open(f"/compare?{query}")
    rows = page.locator("#compare-operations-table tbody tr")
    expect(rows.first).to_be_visible()
    cells = rows.evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert ["compute · backward · B", "2"] in [row[:2] for row in cells]
    steps = next(iter(traces(page, "compare-waterfall").values()))
    assert (steps["x"][0], steps["x"][-1]) == ("A", "B")


def test_all_open_runs_make_a_trend(tab: Tab, sample_runs: list[Path], query: str) -> None:
    page = tab.open(f"/compare?{query}")
    (line,) = traces(page, "compare-trend").values()
    names = page.locator("#compare-b option").all_text_contents()
    stepless = 1  # has no step time, and no place in the line
    assert len(line["y"]) == len(names) - stepless
    run = next(open_run(path) for path in sample_runs if path.name == B)
    mean = step_samples(run, run.steps[1:]).mean()
    assert line["y"][names.index(B)] == pytest.approx(mean)
    rows = page.locator("#compare-all-table tbody tr")
    expect(rows).to_have_count(len(names))
    expect(rows.nth(names.index(B)).locator("td").nth(2)).to_have_text(f"{mean:,.2f}")
    rows.nth(names.index(B)).get_by_role("link").click()
    page.wait_for_url(f"**/compare?vs={names.index(B)}*")


def test_one_step_of_both_stands_on_one_axis_and_opens_in_the_timeline(
    tab: Tab, query: str
) -> None:
    page = tab.open(f"/compare?{query}&theme=dark")
    rows = page.locator("#compare-step .ytick text")
    expect(rows.first).to_be_visible()
    shown = sorted(rows.all_text_contents())
    assert shown == sorted(f"{run} · rank {rank}" for run in "AB" for rank in range(4))
    page.locator("#compare-at").select_option("5")
    page.wait_for_url("**at=5*")
    page.get_by_role("link", name="B in the timeline").click()
    page.wait_for_url(f"**/timeline?run={query.partition('vs=')[2]}&*")
    expect(page.locator("#shell-run option:checked")).to_have_text(B)
