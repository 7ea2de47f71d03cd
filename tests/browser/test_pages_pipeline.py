"""The Pipeline page in a real browser: on the toy run (conftest.py) and a recorded one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import STEPS, Tab
from tests.browser.pointing import click_figure, place
from tests.browser.reading import traces, wait_until_drawn
from tests.browser.timeline_page import until

pytestmark = pytest.mark.browser

FIRST = 1 / 8
"""The middle of the first of four columns, one per step."""


def test_measured_bubbles_are_those_of_the_toy(tab: Tab) -> None:
    page = tab.open("/pipeline")
    measured = traces(page, "pipeline-bubble")["measured"]
    # Window 0-80 ms; F 0-20 and B 40-80 leave 20 ms between them.
    assert measured["x"] == list(range(STEPS))
    assert measured["y"] == pytest.approx([0.25] * STEPS)
    parts = {name: part["x"] for name, part in traces(page, "pipeline-parts").items()}
    assert parts == {"warm-up": [0, 0], "stall": [20, 20], "cool-down": [0, 0]}


def test_the_grid_draws_the_step_of_the_address_also_after_a_reload(tab: Tab) -> None:
    page = tab.open("/pipeline")
    expect(page.locator("#pipeline-step")).to_have_value(str(STEPS // 2))
    page.select_option("#pipeline-step", "3")
    page.wait_for_url("**/pipeline?at=3")
    page.reload()
    expect(page.locator("#pipeline-step")).to_have_value("3")
    grid = traces(page, "pipeline-grid")
    assert grid["forward"]["base"][:2] == [0, 0]
    assert grid["forward"]["text"][:2] == ["0", "0"]
    assert grid["backward"]["base"][:2] == [40, 40]


def test_a_click_on_a_step_draws_its_schedule(tab: Tab) -> None:
    page = tab.open("/pipeline")
    cells = page.locator("#pipeline-heatmap .nsewdrag")
    click_figure(page, "pipeline-heatmap", cells, across=FIRST)
    page.wait_for_url("**at=0*")
    expect(page.locator("#pipeline-step")).to_have_value("0")


def test_a_click_counts_that_comes_soon_after_a_movement(tab: Tab) -> None:
    """plotly.js loses those in which it would hover while the button is down."""
    page = tab.open("/pipeline")
    wait_until_drawn(page)
    cells = page.locator("#pipeline-heatmap .nsewdrag")

    def press(step: int) -> None:
        x, y = place(cells, (2 * step + 1) * FIRST)
        page.mouse.move(x - 2, y)
        page.mouse.move(x, y)
        page.mouse.down()

    press(0)
    page.wait_for_timeout(60)  # as long as a finger is down
    page.mouse.up()
    page.wait_for_url("**at=0*")

    press(3)
    page.locator("#pipeline-heatmap .js-plotly-plot").evaluate(
        "plot => window.Plotly.relayout(plot, { autosize: true })"
    )
    page.mouse.up()
    page.wait_for_url("**at=3*")


def test_a_drag_zooms_and_is_no_click(tab: Tab) -> None:
    page = tab.open("/pipeline")
    wait_until_drawn(page)
    cells = page.locator("#pipeline-heatmap .nsewdrag")
    from_, to = place(cells, FIRST), place(cells, 3 * FIRST)
    plot = page.locator("#pipeline-heatmap .js-plotly-plot")
    shown = "plot => plot._fullLayout.xaxis.range.map(Number)"
    assert plot.evaluate(shown) == pytest.approx([-0.5, 3.5])
    page.mouse.move(*from_)
    page.mouse.down()
    page.mouse.move(*to, steps=3)
    page.mouse.up()
    # From the middle of the first column to that of the second.
    until(page, lambda: plot.evaluate(shown) == pytest.approx([0, 1], abs=0.05))
    assert "at=" not in page.url


def test_the_arrows_go_from_step_to_step_and_the_rest_of_the_page_stays(tab: Tab) -> None:
    page = tab.open("/pipeline?at=1")
    traces(page, "pipeline-grid")
    page.evaluate("document.querySelector('#pipeline-bubble').dataset.seen = 'before'")
    page.get_by_title("Next step").click()
    expect(page.locator("#pipeline-step")).to_have_value("2")
    page.get_by_title("Next step").click()
    expect(page.locator("#pipeline-step")).to_have_value("3")
    expect(page.get_by_title("Next step")).to_have_count(0)
    page.go_back()
    expect(page.locator("#pipeline-step")).to_have_value("2")
    expect(page.locator("#pipeline-bubble")).to_have_attribute("data-seen", "before")


def test_the_schedule_opens_in_the_timeline_at_its_step(tab: Tab) -> None:
    page = tab.open("/pipeline?at=3")
    expect(page.locator("#pipeline-step")).to_have_value("3")
    link = page.get_by_role("link", name="Open in the timeline")
    expect(link).to_have_attribute("href", re.compile(r"t1=3[89]\d{7}\b"))
    link.click()
    # Step 3 begins at 300 ms; its pipeline window is 80 ms long.
    page.wait_for_url("**/timeline?t0=*")
    start, end = (int(page.url.split(f"{name}=")[1].split("&")[0]) for name in ("t0", "t1"))
    assert start <= 300_000_000
    assert 380_000_000 <= end < 400_000_000


def test_a_recorded_pipeline_names_the_slow_stage(tab: Tab, sample_runs: list[Path]) -> None:
    names = [path.name for path in sample_runs]
    page = tab.open(f"/pipeline?run={names.index('pp4-1f1b-slow-stage') + 1}")
    # Stage 2 is slow: 0 waits for 1, 1 waits for 2, 3 waits for 2.
    matrix = next(iter(traces(page, "pipeline-culprits").values()))["z"]
    longest = [max(range(4), key=lambda rank: row[rank] or 0) for row in matrix]
    assert [longest[rank] for rank in (0, 1, 3)] == [1, 2, 2]


def test_a_run_without_pipeline_says_so(tab: Tab) -> None:
    page = tab.open("/pipeline?run=0&steps=7")
    expect(page.locator("#shell-page .empty")).to_be_visible()
