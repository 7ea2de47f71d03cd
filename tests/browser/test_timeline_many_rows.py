"""A run of more rows than the strip below the lanes has: it says which ranks it is of."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from dashboard.timeline.window import MAX_ROWS
from tests.browser.conftest import Tab, served, watched_tab
from tests.support.toy import Event, write_run

pytestmark = pytest.mark.browser


def test_the_strip_says_which_ranks_it_is_of(browser: Browser, tmp_path: Path) -> None:
    """Rank 0 has as many rows as one question to the server may ask for, rank 1 the next one."""
    work = Event(start=0, duration=1_000, kind="user", name="work")
    many = [
        Event(start=0, duration=1_000, kind="user", name="work", lane=f"host:{number}")
        for number in range(MAX_ROWS)
    ]
    run = write_run(tmp_path / "run", {0: many, 1: [work]})
    with served([run]) as address, watched_tab(browser, address) as tab:
        strip = tab.open_timeline().locator(".timeline-minimap")
        expect(strip).to_have_attribute("title", "The whole run of the first 1 of 2 ranks")


def test_with_few_rows_it_is_of_all_ranks(tab: Tab) -> None:
    expect(tab.open_timeline().locator(".timeline-minimap")).to_have_attribute("title", "")
