"""Marking a stretch of time of the timeline in a real browser, and what is said of it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import MS, STEP, Tab
from tests.browser.timeline_page import AXIS, at_step_1, mark, place, query, window

pytestmark = pytest.mark.browser


def rows(page: Page, table: str) -> list[list[str]]:
    found = page.locator(f"[data-part=statistics] .{table} tbody tr")
    expect(found.first).to_be_visible()
    return [row.locator("td").all_inner_texts() for row in found.all()]


def test_a_marked_stretch_says_where_the_time_went(tab: Tab) -> None:
    """From 40 to 80 ms of step 1 rank 0 does a backward, 10 of its 40 ms in an all_reduce."""
    page = at_step_1(tab)
    mark(page, STEP + 40 * MS, STEP + 80 * MS)
    page.wait_for_url("**mark=*")
    assert query(page)["on"] == "0"
    start, end = (int(edge) for edge in query(page)["mark"].split("-"))
    assert (start, end) == pytest.approx((STEP + 40 * MS, STEP + 80 * MS), abs=MS)
    panel = page.locator("[data-part=statistics]")
    expect(panel).to_contain_text("events on rank 0")
    shares = {
        name: float(share.split()[0]) for name, _, share in rows(page, "selection-categories")
    }
    assert shares["compute"] == pytest.approx(75, abs=3)
    assert shares["exposed tp comm."] == pytest.approx(25, abs=3)
    assert sum(shares.values()) == pytest.approx(100, abs=0.2)
    events = {row[0]: row[1:] for row in rows(page, "selection-events")}
    assert events["collective all_reduce"] == ["1", "10.00 ms", "1.049 MB"]

    page.reload()
    expect(panel).to_contain_text("events on rank 0")
    page.keyboard.press("z")
    page.wait_for_url(lambda url: f"t0={STEP}&" not in url)
    assert window(page) == pytest.approx((start, end), abs=2)
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert not {"mark", "on"} & set(query(page))


def test_a_drag_on_the_axis_marks_all_ranks(tab: Tab) -> None:
    """Both ranks do nothing from 20 to 40 ms."""
    page = at_step_1(tab)
    from_, to = (place(page, STEP + at * MS, AXIS / 2) for at in (22, 38))
    page.mouse.move(*from_)
    page.mouse.down()
    page.mouse.move(*to, steps=4)
    page.mouse.up()
    expect(page.locator("[data-part=statistics]")).to_contain_text("on 2 ranks")
    assert "on" not in query(page)
    assert [row[0] for row in rows(page, "selection-categories")] == ["idle"]
    assert [row[-1] for row in rows(page, "selection-ranks")] == ["100.0 %", "100.0 %"]
