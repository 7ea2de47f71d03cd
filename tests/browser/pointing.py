"""Clicks on plotly figures, as somebody makes them who waits until there is something to click."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.browser.timeline_page import until

Place = tuple[float, float]


def click_figure(page: Page, figure: str, mark: Locator, across: float = 1 / 2) -> None:
    """Click on a mark in the figure with that id, once the figure says what is clicked.

    across: which part of the mark's width the place is from its left; it is in its upper half.
    """
    wait_until_it_listens(page, figure)
    label = page.locator(f"#{figure} .hoverlayer .hovertext").first

    def hovered() -> Place | None:
        at = place(mark, across)
        page.mouse.move(at[0] - 1, at[1])
        page.mouse.move(*at)
        return at if label.is_visible() else None

    at = until(page, hovered)
    page.mouse.click(*at)


def wait_until_it_listens(page: Page, figure: str) -> None:
    """Until the figure has been drawn, fitted into its box and bound to the page.

    Dash marks a figure as pending until all of this is done.
    """
    drawn = page.locator(f"#{figure} .js-plotly-plot:not(.dash-graph--pending) .main-svg")
    expect(drawn.first).to_be_visible()
    expect(page.locator("#shell-page[data-dash-is-loading=true]")).to_have_count(0)


def place(mark: Locator, across: float = 1 / 2) -> Place:
    """A place on the mark, which is brought into view."""
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    return box["x"] + box["width"] * across, box["y"] + box["height"] / 4
