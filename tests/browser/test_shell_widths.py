"""The shell in windows of any width: nothing at the top covers anything else, all is in reach."""

from __future__ import annotations

from itertools import combinations

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Tab

pytestmark = pytest.mark.browser

WIDTHS = (640, 1024, 1280)
PARTS = ".brand, .nav-link, .control, .controls > .icon-button"


def boxes(page: Page) -> list[dict[str, float]]:
    """left, right, top, bottom of what stands at the top, as far as it can be seen."""
    found: list[dict[str, float]] = page.evaluate(
        """parts => [...document.querySelectorAll(parts)].map((part) => {
          let { left, right, top, bottom } = part.getBoundingClientRect();
          const nav = part.closest(".nav")?.getBoundingClientRect(); // it may scroll
          if (nav) [left, right] = [Math.max(left, nav.left), Math.min(right, nav.right)];
          return { left, right, top, bottom };
        }).filter(({ left, right }) => right > left)""",
        PARTS,
    )
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_at_the_top_overlaps(tab: Tab, width: int) -> None:
    page = tab.page
    page.set_viewport_size({"width": width, "height": 700})
    tab.open("/overview")
    found = boxes(page)
    assert len(found) > 6  # the brand, some links, the run, the steps, two buttons
    for one, other in combinations(found, 2):
        across = min(one["right"], other["right"]) - max(one["left"], other["left"])
        down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
        assert min(across, down) < 0.5, (one, other)
    assert all(one["left"] >= -0.5 and one["right"] <= width + 0.5 for one in found)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [640, 1024])
def test_every_page_can_be_reached(tab: Tab, width: int) -> None:
    """The last link can be clicked where it is, after its row has been scrolled if need be."""
    page = tab.page
    page.set_viewport_size({"width": width, "height": 700})
    tab.open("/overview")
    page.locator(".nav-link").last.click()
    page.wait_for_selector("a[aria-current=page]:last-of-type")
    assert page.url.endswith("/query")
