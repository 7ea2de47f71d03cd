"""axe-core finds no grave fault on any page, light or dark, and none is wider than a laptop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from dashboard.pages.app import PAGES
from tests.browser.conftest import Tab, new_context
from tests.browser.reading import wait_until_drawn

GRAVE = ("serious", "critical")
VIEW = "run=3&vs=2"
"""A recorded run with something on every page."""


@pytest.fixture(scope="module")
def laptop(browser: Browser, address: str) -> Iterator[Tab]:
    """One tab for all pages: starting one takes longer than looking at a page."""
    context = new_context(browser, viewport={"width": 1280, "height": 720})
    yield Tab(context.new_page(), address)
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", [page.PATH for page in PAGES])
def test_a_page_has_no_grave_fault(laptop: Tab, path: str, theme: str) -> None:
    shown = laptop.open(f"{path}?{VIEW}" + ("&theme=dark" if theme == "dark" else ""))
    wait_until_drawn(shown)
    expect(shown.locator("#shell-page")).to_have_css("opacity", "1")  # faded while it loads
    found: list[dict[str, Any]] = Axe().run(shown).response["violations"]
    grave = {
        fault["id"]: [node["html"][:120] for node in fault["nodes"][:3]]
        for fault in found
        if fault["impact"] in GRAVE
    }
    assert grave == {}
    wide = shown.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, "no horizontal scroll bar at 1280 pixels"
