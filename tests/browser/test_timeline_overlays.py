"""What the timeline shows over and below its lanes, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import MS, STEP, Tab
from tests.browser.timeline_page import AXIS, at_step_1, picture, place, query, until

pytestmark = pytest.mark.browser


def test_the_critical_path_is_drawn_and_survives_a_reload(tab: Tab) -> None:
    page = at_step_1(tab)
    page.mouse.move(5, 5)
    before = until(page, lambda: picture(page))
    page.keyboard.press("p")
    page.wait_for_url("**path=1*")
    expect(page.locator("[data-part=path]")).to_have_attribute("aria-pressed", "true")
    drawn = until(page, lambda: picture(page).replace(before, ""))
    page.reload()
    page.locator("#timeline[data-ready]").wait_for()
    until(page, lambda: picture(page) == drawn)
    page.locator("[data-part=path]").click()
    page.mouse.move(5, 5)
    until(page, lambda: picture(page) == before)
    assert "path" not in query(page)


@pytest.mark.parametrize(("name", "key"), [("bubbles", "b"), ("plan", "g")])
def test_an_overlay_is_toggled_and_survives_a_reload(
    tab: Tab, sample_runs: list[Path], name: str, key: str
) -> None:
    (run,) = (i for i, path in enumerate(sample_runs, 1) if path.name == "pp4-1f1b-balanced")
    page = tab.open_timeline(f"?run={run}&steps=7-7")
    page.mouse.move(5, 5)
    before = until(page, lambda: picture(page))
    page.keyboard.press(key)
    page.wait_for_url(f"**{name}=1*")
    button = page.locator(f"[data-part={name}]")
    expect(button).to_have_attribute("data-count", re.compile(r"[1-9]\d*"))
    drawn = until(page, lambda: picture(page).replace(before, ""))
    page.reload()
    page.wait_for_selector("#timeline[data-ready=true]")
    until(page, lambda: picture(page) == drawn)
    button.click()
    page.mouse.move(5, 5)
    until(page, lambda: picture(page) == before)


def test_counters_are_areas_with_their_value_under_the_pointer(tab: Tab) -> None:
    """Rank 0 has 100 MB from 50 ms on and 200 from 150 ms on."""
    page = at_step_1(tab)
    page.keyboard.press("c")
    expect(page.locator("[data-part=counters]")).to_have_attribute("data-count", "2")
    tooltip = page.locator("[data-part=tooltip]")
    track = AXIS + 8 + 76 + 46 + 3 + 17  # below the two rows of rank 0
    for at, value in ((20, "100.0 MB"), (80, "200.0 MB")):
        page.mouse.move(*place(page, STEP + at * MS, track))
        expect(tooltip).to_contain_text("memory.allocated")
        expect(tooltip).to_contain_text(value)


def test_an_overlay_that_the_run_has_nothing_for_says_so(tab: Tab) -> None:
    page = at_step_1(tab)
    page.keyboard.press("g")
    said = page.locator("[data-part=said]")
    expect(said).to_contain_text("this run has no schedule that a plan can be made of")


def test_what_the_server_could_not_be_asked_is_asked_again(tab: Tab) -> None:
    page = at_step_1(tab)
    asked: list[str] = []

    def fail_once(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/path?*", fail_once)
    page.keyboard.press("p")
    trouble = page.locator("[data-part=trouble]")
    expect(trouble).to_contain_text("does not answer")
    expect(page.locator("[data-part=path]")).to_have_attribute("data-count", "1")
    expect(trouble).to_be_hidden()
    assert len(asked) == 2
    assert [text for text in tab.complaints if "CONNECTION_RESET" not in text] == []
    tab.complaints.clear()  # the browser's own remark on the failure
