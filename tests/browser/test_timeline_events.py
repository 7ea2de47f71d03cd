"""Events of the timeline in a real browser: hovering, clicking, what belongs together."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import MS, STEP, Tab
from tests.browser.timeline_page import (
    NESTED_ROW_Y,
    at_step_1,
    pixels_coloured,
    place,
    query,
    until,
)

pytestmark = pytest.mark.browser


def test_a_click_shows_all_fields_and_escape_puts_them_away(tab: Tab) -> None:
    page = at_step_1(tab)
    page.mouse.click(*place(page, STEP + 55 * MS, NESTED_ROW_Y))
    details = page.locator("[data-part=details]")
    expect(details).to_be_visible()
    for text in ("collective", "all_reduce", "tp:0-1", "10.00 ms", "1,048,576 bytes", "float32"):
        expect(details).to_contain_text(text)
    assert query(page)["sel"].startswith("0.")
    page.keyboard.press("Escape")
    expect(details).to_be_hidden()
    assert "sel" not in query(page)


def test_hovering_names_the_event_and_counts_merged_ones(tab: Tab) -> None:
    page = at_step_1(tab)
    tooltip = page.locator("[data-part=tooltip]")
    page.mouse.move(*place(page, STEP + 60 * MS))
    expect(tooltip).to_contain_text("backward, microbatch 0")
    expect(tooltip).to_contain_text("40.00 ms")
    page.mouse.move(*place(page, STEP + 95 * MS))
    expect(tooltip).to_contain_text("events, 100 % user")


def test_names_from_a_trace_are_never_markup(tab: Tab) -> None:
    page = tab.open_timeline(f"?t0={STEP + 90 * MS}&t1={STEP + 90 * MS + 100_000}")
    page.mouse.move(*place(page, STEP + 90 * MS + 5_000))
    tooltip = page.locator("[data-part=tooltip]")
    expect(tooltip).to_contain_text("<b>log</b>")
    assert tooltip.locator("b").count() == 0


def test_what_belongs_to_an_event_is_outlined_linked_and_listed(tab: Tab) -> None:
    page = at_step_1(tab)
    details = page.locator("[data-part=details]")
    page.mouse.click(*place(page, STEP + 10 * MS))
    expect(details).to_contain_text("forward, microbatch 0")
    until(page, lambda: pixels_coloured(page, "accent") == 0)  # a forward belongs to nothing

    page.mouse.click(*place(page, STEP + 55 * MS, NESTED_ROW_Y))
    member = details.locator(".relative:not(.same)")
    expect(member).to_contain_text("collective all_reduce")
    expect(member).to_contain_text("rank 1")
    until(page, lambda: pixels_coloured(page, "accent") > 50)
    member.click()
    page.wait_for_url("**sel=1.*")


def test_the_same_operation_is_listed_for_the_other_ranks(tab: Tab) -> None:
    page = at_step_1(tab)
    page.mouse.click(*place(page, STEP + 10 * MS))
    same = page.locator("[data-part=same] button")
    expect(same).to_have_count(2)
    expect(same.nth(0)).to_contain_text("rank 0, this one")
    expect(same.nth(1)).to_contain_text("20.00 ms")
    same.nth(1).click()
    page.wait_for_url("**sel=1.*")
    expect(same.nth(1)).to_contain_text("rank 1, this one")


def test_a_message_is_an_arrow_from_its_send_to_its_receive(
    tab: Tab, sample_runs: list[Path]
) -> None:
    """The wait for a send ends at rank 1, whose receive is listed, and an arrow leads there."""
    (run,) = (i for i, path in enumerate(sample_runs, 1) if path.name == "pp4-1f1b-slow-stage")
    page = tab.open_timeline(f"?run={run}&steps=7-7&q=kind:wait+send+rank:0+step:7+mb:4")
    expect(page.locator("[data-part=search-count]")).to_have_text("1")
    page.locator("[data-part=search-next]").click()
    other = page.locator("[data-part=details] .relative:not(.same)", has_text="rank 1")
    expect(other).to_contain_text("recv")
    until(page, lambda: pixels_coloured(page, "accent") > 30)
