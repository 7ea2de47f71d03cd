"""Every page on real runs, and the shell around them, in a real browser."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from types import ModuleType

import pytest
from playwright.sync_api import Page, expect

from dashboard.pages.app import PAGES
from tests.browser.conftest import Tab
from tests.browser.reading import wait_until_drawn
from tracer.schema import events_file

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.TITLE)
def test_every_page_shows_every_sample_without_complaint(
    tab: Tab, sample_runs: list[Path], page: ModuleType
) -> None:
    for number, theme in zip(range(1, len(sample_runs) + 1), cycle(["light", "dark"])):
        other = number % len(sample_runs) + 1
        shown = tab.open(f"{page.PATH}?run={number}&vs={other}&theme={theme}")
        expect(shown.locator("html")).to_have_attribute("data-theme", theme)
        expect(shown.locator("a[aria-current=page]")).to_have_text(page.TITLE)
        expect(shown.locator("#shell-page .notice[role=alert]")).to_have_count(0)
        shown.wait_for_load_state("networkidle")
        wait_until_drawn(shown)
        assert_all_can_be_saved(shown)


def assert_all_can_be_saved(shown: Page) -> None:
    """Each figure has its buttons, and each table its link."""
    figures = shown.locator(".dash-graph").evaluate_all("all => all.map(one => one.id)")
    buttons = shown.locator("button[data-save=svg]").evaluate_all(
        "all => all.map(one => one.dataset.graph)"
    )
    assert sorted(figures) == sorted(buttons)
    tables = shown.locator(".card:has(.data-table)")
    assert tables.count() == tables.filter(has=shown.locator("a[data-table]")).count()


def test_pages_are_reached_by_links_and_left_by_back(tab: Tab) -> None:
    page = tab.open("/timeline?run=1")
    for title in [page.TITLE for page in PAGES]:
        page.get_by_role("link", name=title, exact=True).click()
        expect(page.locator("a[aria-current=page]")).to_have_text(title)
        assert "run=1" in page.url
    page.go_back()
    expect(page.locator("a[aria-current=page]")).to_have_text(PAGES[-2].TITLE)


def test_the_theme_is_switched_kept_and_in_the_address(tab: Tab) -> None:
    page = tab.open("/timeline")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#shell-theme")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.wait_for_url("**theme=dark*")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.goto(f"{tab.address}/timeline")  # a new visit without a theme: the last one is kept
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_another_run_drops_what_belongs_to_the_first(tab: Tab) -> None:
    page = tab.open_timeline("?t0=1000000&t1=2000000&steps=1-2&sel=0.1")
    page.select_option("#shell-run", "1")
    page.wait_for_url("**/timeline?run=1")


def test_the_step_field_sets_the_range_and_marks_what_is_none(tab: Tab) -> None:
    page = tab.open("/timeline")
    field = page.locator("#shell-steps")
    field.fill("1-2")
    field.press("Enter")
    page.wait_for_url("**steps=1-2")
    page.reload()
    expect(field).to_have_value("1-2")
    field.fill("2-1")
    field.press("Enter")
    expect(page.locator("#shell-steps-control")).to_have_class("control invalid")
    assert page.url.endswith("steps=1-2")


def test_a_damaged_run_is_shown_with_what_is_wrong(tab: Tab, sample_runs: list[Path]) -> None:
    page = tab.open_timeline(f"?run={len(sample_runs) + 1}")
    banner = page.locator(".notice[role=status]")
    expect(banner).to_contain_text("damaged: 1 problem; what is readable is shown")
    expect(banner).to_contain_text(events_file(1))
    expect(page.locator("[data-part=legend]")).to_contain_text("forward")


def test_an_address_that_names_no_view_says_so(tab: Tab) -> None:
    page = tab.page
    reply = page.goto(f"{tab.address}/timeline?run=99")
    assert reply is not None
    assert reply.status == 400
    expect(page.locator("body")).to_contain_text("this dashboard shows runs 0 to")
    tab.complaints.clear()  # the browser logs the status that was wanted
