"""Clicks on plotly figures, as somebody makes them who waits until there is something to click."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

from tests.browser.reading import wait_until_drawn
from tests.browser.timeline_page import until

Place = tuple[float, float]


def click_figure(page: Page, figure: str, mark: Locator, across: float = 1 / 2) -> None:
    """Click on a mark in the figure with that id, once the figure says what is clicked.

    across: which part of the mark's width the place is from its left; it is in its upper half.
    """
    wait_until_drawn(page)
    label = page.locator(f"#{figure} .hoverlayer .hovertext").first

    def hovered() -> Place | None:
        at = place(mark, across)
        page.mouse.move(at[0] - 1, at[1])
        page.mouse.move(*at)
        return at if label.is_visible() else None

    at = until(page, hovered)
    page.mouse.click(*at)


def place(mark: Locator, across: float = 1 / 2) -> Place:
    """A place on the mark, which is brought into view."""
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    return box["x"] + box["width"] * across, box["y"] + box["height"] / 4
