"""The Query page in a real browser, on the toy run whose every event is known (conftest.py)."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Tab
from tests.browser.reading import saved_table
from tests.browser.timeline_page import until

pytestmark = pytest.mark.browser


def _cells(page: Page) -> list[str]:
    """The rows as they are now: the grid fills them one after the other."""
    rows = page.locator(".ag-center-cols-container .ag-row")
    return sorted(row.replace("\n", " ") for row in rows.all_inner_texts())


def test_a_query_is_run_shown_saved_and_kept_in_the_address(tab: Tab) -> None:
    page = tab.open("/query?theme=dark")
    page.locator("#query-sql").fill("select kind, count(*) as n from events group by 1 order by 2")
    page.locator("#query-sql").press("Control+Enter")
    # Per rank and step one of each, and 500 of the user's; two ranks, four steps.
    expected = ["backward 8", "collective 8", "forward 8", "optimizer 8", "step 8", "user 4000"]
    until(page, lambda: _cells(page) == expected)
    assert {row["kind"]: row["n"] for row in saved_table(page)}["user"] == "4000"
    page.reload()
    until(page, lambda: _cells(page) == expected)


def test_a_wrong_query_says_what_is_wrong_and_an_example_mends_it(tab: Tab) -> None:
    page = tab.open("/query")
    page.locator("#query-sql").fill("select * from '/etc/passwd'")
    page.locator("#query-run").click()
    expect(page.locator(".notice")).to_contain_text("views: events")
    expect(page.locator("#query-sql")).to_have_value("select * from '/etc/passwd'")
    page.get_by_role("link", name="Slowest steps").click()
    until(page, lambda: len(_cells(page)) == 4)
    expect(page.locator("#query-sql")).to_have_value(re.compile("arg_max"))


def test_what_is_being_written_outlives_a_new_layout(tab: Tab) -> None:
    page = tab.open("/query?sql=select%201")
    page.locator("#query-sql").fill("select 2")
    page.locator("#shell-theme").click()
    page.wait_for_url("**theme=dark*")
    expect(page.locator("#shell-page[data-dash-is-loading=true]")).to_have_count(0)
    expect(page.locator("#query-sql")).to_have_value("select 2")


def test_names_that_look_like_html_are_text(tab: Tab) -> None:
    sql = "select%20name%20from%20events%20where%20kind='user'%20limit%201"
    page = tab.open(f"/query?sql={sql}")
    until(page, lambda: _cells(page) == ["<b>log</b>"])
