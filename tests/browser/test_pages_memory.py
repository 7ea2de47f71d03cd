"""The Memory page in a real browser: on the toy run (conftest.py), and on one without samples."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Tab
from tests.browser.reading import saved_table, table, traces

pytestmark = pytest.mark.browser


def test_bars_and_table_are_what_was_sampled_and_the_peak_opens_in_the_timeline(tab: Tab) -> None:
    page = tab.open("/memory?theme=dark")
    bars = traces(page, "memory-peaks")
    assert (bars["peak"]["x"], bars["mean"]["x"]) == ([200, 300], [150, 200])  # MB
    assert bars["microbatches held"]["x"] == [1, 1]
    assert [row[:4] for row in table(page)] == [
        ["rank 0", "200 MB", "0.150 s", "150 MB"],
        ["rank 1", "300 MB", "0.150 s", "200 MB"],
    ]
    assert [row["peak_bytes"] for row in saved_table(page)] == ["200000000.0", "300000000.0"]
    expect(page.locator(".tile").first).to_contain_text("rank 1, +50")
    page.locator("a.tile").filter(has_text="in step 1").click()
    page.wait_for_url("**/timeline?*t0=100000000&t1=200000000*")


def test_without_samples_the_page_says_what_to_do_and_shows_what_is_held(tab: Tab) -> None:
    page = tab.open("/memory?run=2")
    expect(page.locator("#shell-page")).to_contain_text("This run has no counter of memory")
    assert traces(page, "memory-peaks")["by the plan"]["x"] == [4, 3, 2, 1]  # 1F1B: p − rank
