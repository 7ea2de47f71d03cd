"""While a page is being computed it says so, and nothing jumps when its figures come."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Tab
from tests.browser.timeline_page import until

pytestmark = pytest.mark.browser

CALLS = re.compile(r"/_dash-update-component(\?|$)")
FIGURES = re.compile(r"/_dash-component-suites/.*(plotly|async-graph)")
"""The scripts that draw, which come after the page."""


class HeldBack:
    """Requests that get no answer until they are released."""

    def __init__(self, page: Page, what: str | re.Pattern[str]) -> None:
        self.waiting: list[Route] = []
        self._released = False
        page.route(what, self._hold)

    def _hold(self, route: Route) -> None:
        if self._released:
            route.continue_()
        else:
            self.waiting.append(route)

    def release(self) -> None:
        """Let them go, and those to come."""
        self._released = True
        for route in self.waiting:
            route.continue_()


def test_it_says_that_it_reads_and_nothing_jumps_when_figures_come(tab: Tab) -> None:
    page = tab.page
    page.clock.install()
    calls, scripts = HeldBack(page, CALLS), HeldBack(page, FIGURES)
    page.goto(f"{tab.address}/overview")
    loading = page.locator(".page-loading")
    expect(loading).to_have_text("Reading the run…")
    expect(loading).to_have_css("opacity", "1")

    calls.release()
    below = page.locator("#overview-critical-path-table")
    expect(below).to_be_visible()
    expect(loading).to_have_count(0)
    until(page, lambda: scripts.waiting)  # the figures are not drawn yet
    before = below.bounding_box()

    page.clock.fast_forward("01:00")  # also on a slow line
    scripts.release()
    expect(page.locator("#overview-steps .main-svg").first).to_be_visible()
    assert below.bounding_box() == before
