"""Keys that work on every page, their help, and the way past the navigation."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Tab

pytestmark = pytest.mark.browser


def test_digits_lead_to_the_pages_and_letters_to_the_controls(tab: Tab) -> None:
    page = tab.open("/query?run=1")
    page.keyboard.press("7")
    expect(page.locator("a[aria-current=page]")).to_have_text("Memory")
    assert page.url.endswith("/memory?run=1"), "the rest of the view stays"
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("r")
    expect(page.locator("#shell-run")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    expect(page.locator("#shell-steps")).to_be_focused()


def test_keys_are_letters_where_something_is_being_written(tab: Tab) -> None:
    page = tab.open("/query?sql=select%201")
    field = page.locator("#query-sql")
    field.press("End")
    field.press("7")
    field.press("t")
    expect(field).to_have_value("select 17t")
    expect(page.locator("a[aria-current=page]")).to_have_text("Query")


def test_the_help_lists_the_pages_and_is_closed_by_keys_and_clicks(tab: Tab) -> None:
    page = tab.open("/query")
    help_ = page.get_by_role("dialog", name="Keys")
    page.keyboard.press("?")
    expect(help_.get_by_role("row", name="7 Memory")).to_be_visible()
    page.keyboard.press("Escape")
    expect(help_).to_be_hidden()
    page.get_by_role("button", name="Keys").click()
    expect(help_).to_be_visible()
    page.mouse.click(5, 5)
    expect(help_).to_be_hidden()


def test_the_first_stop_of_the_keyboard_leads_past_the_navigation(tab: Tab) -> None:
    page = tab.open("/query")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the page")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#query-sql")).to_be_focused()
    assert page.url.endswith("/query")
