"""The shell in windows of any width: nothing at the top covers anything else, all is in reach."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Tab
from tests.browser.reading import wait_until_drawn

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


@pytest.mark.parametrize("width", [1024, 1280])
def test_no_column_of_a_table_and_no_word_beside_a_bar_is_cut_off(
    tab: Tab, sample_runs: list[Path], width: int
) -> None:
    number = [path.name for path in sample_runs].index("pp2-tp2-1f1b") + 1
    page = tab.page
    page.set_viewport_size({"width": width, "height": 800})
    tab.open(f"/communication?run={number}")
    wait_until_drawn(page)
    assert cut_off(page, "#communication-skew .bars text") == []
    assert cut_off(page, ".table-scroll") == []
    tab.open(f"/whatif?run={number}")
    page.locator("#whatif-other-layouts .data-table").wait_for()
    assert cut_off(page, ".table-scroll") == []


def cut_off(page: Page, parts: str) -> list[str]:
    """What reaches out of its own box to the right, or out of the figure that it is drawn in."""
    found: list[str] = page.evaluate(
        """parts => [...document.querySelectorAll(parts)].filter((part) => {
          const box = part.ownerSVGElement?.closest(".js-plotly-plot");
          if (!box) return part.scrollWidth > part.clientWidth + 1;
          return part.getBoundingClientRect().right > box.getBoundingClientRect().right + 1;
        }).map((part) => part.textContent)""",
        parts,
    )
    return found
