"""Searching the timeline in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import MS, STEP, STEPS, Tab
from tests.browser.timeline_page import at_step_1, query, search_for

pytestmark = pytest.mark.browser


def test_hits_are_counted_and_gone_through(tab: Tab) -> None:
    """Four all_reduces on each of two ranks; the first hit is the next one from the window on."""
    page = at_step_1(tab)
    search_for(page, "all_red")
    count = page.locator("[data-part=search-count]")
    expect(count).to_have_text(str(2 * STEPS))
    details = page.locator("[data-part=details]")
    seen = []
    for key, place in (("Enter", "3 / 8"), ("Enter", "4 / 8"), ("Enter", "5 / 8")):
        page.keyboard.press(key)
        expect(count).to_have_text(place)
        expect(details).to_contain_text("all_reduce")
        seen.append(query(page)["sel"])
    assert len(set(seen)) == 3
    page.keyboard.press("Shift+Enter")
    expect(count).to_have_text("4 / 8")
    assert query(page)["sel"] == seen[1]

    page.reload()
    expect(count).to_have_text("8")
    expect(page.get_by_label("Search events")).to_have_value("all_red")
    page.get_by_label("Search events").press("Escape")
    expect(count).to_be_empty()
    assert "q" not in query(page)


def test_a_hit_out_of_sight_is_brought_into_view(tab: Tab) -> None:
    page = at_step_1(tab)
    search_for(page, "kind:optimizer step:3 rank:1")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: f"t0={STEP}&" not in url)
    start, end = int(query(page)["t0"]), int(query(page)["t1"])
    assert start < 3 * STEP + 80 * MS < end


def test_what_is_not_found_or_not_understood_is_said(tab: Tab) -> None:
    page = at_step_1(tab)
    search_for(page, "nothing_like_it")
    count = page.locator("[data-part=search-count]")
    expect(count).to_have_text("none")
    field = page.get_by_label("Search events")
    field.fill("rank:many")
    expect(count).to_have_text("?")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_attribute(
        "title", "rank:many: wanted a number or a range, as rank:3 or rank:0-3"
    )
    assert [text for text in tab.complaints if "400" not in text] == []
    tab.complaints.clear()  # the browser's own remark on the refusal
