"""The Overview in a real browser, on the toy run whose every event is known (conftest.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Tab
from tests.browser.pointing import click_figure
from tests.browser.reading import traces

pytestmark = pytest.mark.browser


def test_the_tiles_say_what_the_events_of_the_toy_add_up_to(tab: Tab) -> None:
    tiles = tab.open("/overview").locator(".tile")
    # Steps of 100 ms. Compute: F 20 + B 40, less the all_reduce of 10 that B waits for.
    expect(tiles.filter(has_text="Step time")).to_contain_text("100 ms")
    expect(tiles.filter(has_text="Compute")).to_contain_text("50.0 %")
    expect(tiles.filter(has_text="Exposed communication")).to_contain_text("10.0 %")
    expect(tiles.filter(has_text="Recording")).to_contain_text("complete")
    expect(tiles.filter(has_text="Peak memory")).to_contain_text("300 MB")
    # Window 0-80, busy 20 + 40.
    expect(tiles.filter(has_text="Pipeline bubble")).to_contain_text("25.0 %")


def test_the_bars_split_the_step_of_each_rank(tab: Tab) -> None:
    bars = traces(tab.open("/overview"), "overview-accounting")
    shown = {name: bar["x"] for name, bar in bars.items()}
    assert shown == {
        "compute": [50, 50],
        "optimizer": [10, 10],
        "tensor-parallel communication": [10, 10],
        "idle": [30, 30],
    }


def test_the_largest_finding_is_the_one_of_the_report(tab: Tab) -> None:
    page = tab.open("/overview")
    # The only one: 10 ms of all_reduce, since both stages work equally long.
    expect(page.locator(".finding")).to_contain_text(
        "Communication of tp holds up the step: if it took no time, 10.0 of 100.0 ms",
        ignore_case=True,
    )


def test_the_numbers_are_those_of_the_chosen_steps_also_after_a_reload(tab: Tab) -> None:
    page = tab.open("/overview?steps=1-2")
    for _ in range(2):
        (line,) = [t for t in traces(page, "overview-steps").values() if "median" in t["name"]]
        assert (line["x"], line["y"]) == ([1, 2], [100, 100])
        expect(page.locator("#shell-steps")).to_have_value("1-2")
        page.reload()
        page.wait_for_selector("#overview-steps")


def test_a_tile_leads_to_the_page_that_says_more(tab: Tab) -> None:
    page = tab.open("/overview?steps=1-2")
    page.locator("a.tile").filter(has_text="Pipeline bubble").click()
    page.wait_for_url("**/pipeline?steps=1-2")
    expect(page.locator("a[aria-current=page]")).to_have_text("Pipeline")


def test_a_click_on_a_step_opens_it_in_the_timeline(tab: Tab) -> None:
    page = tab.open("/overview")
    (name,) = [name for name in traces(page, "overview-steps") if "median" in name]
    assert name
    point = page.locator("#overview-steps .points path").nth(2)
    click_figure(page, "overview-steps", point)
    # Step 2 of the toy lasts from 200 to 300 ms.
    page.wait_for_url("**/timeline?t0=200000000&t1=300000000")


def test_a_damaged_run_still_has_bars_for_the_ranks_that_are_left(
    tab: Tab, sample_runs: list[Path]
) -> None:
    page = tab.open(f"/overview?run={len(sample_runs) + 1}")
    bars = traces(page, "overview-accounting")
    assert bars["compute"]["x"] == [50]
    expect(page.locator(".facts")).to_contain_text("ranks 1 of 2")
    expect(page.locator(".tile").filter(has_text="Recording")).to_contain_text("rank 1 missing")


def test_a_first_step_that_bends_the_means_is_said_and_left_out_by_a_click(
    tab: Tab, sample_runs: list[Path]
) -> None:
    assert tab.open("/overview").locator("#overview-warm-up").count() == 0
    (number,) = [n for n, path in enumerate(sample_runs, 1) if path.name == "pp2-tp2-1f1b"]
    page = tab.open(f"/overview?run={number}")
    expect(page.locator("#overview-warm-up")).to_contain_text("Step 0, the run's first, took")
    page.get_by_text("Leave it out").click()
    page.wait_for_url(f"**/overview?run={number}&steps=1-15")
    expect(page.locator("#overview-warm-up")).to_have_count(0)
    expect(page.locator("#shell-steps")).to_have_value("1-15")
