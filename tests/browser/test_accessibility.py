"""axe-core finds no grave fault on any page, light or dark, and none is wider than a laptop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from dashboard.pages.app import PAGES
from tests.browser.conftest import PATIENCE_MS, Tab

GRAVE = ("serious", "critical")
VIEW = "run=3&vs=2"
"""A recorded run with something on every page."""


@pytest.fixture(scope="module")
def laptop(browser: Browser, address: str) -> Iterator[Tab]:
    """One tab for all pages: starting one takes longer than looking at a page."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    context.set_default_timeout(PATIENCE_MS)
    yield Tab(context.new_page(), address)
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", [page.PATH for page in PAGES])
def test_a_page_has_no_grave_fault(laptop: Tab, path: str, theme: str) -> None:
    shown = laptop.open(f"{path}?{VIEW}" + ("&theme=dark" if theme == "dark" else ""))
    shown.wait_for_function("!document.querySelector('.js-plotly-plot:empty')")
    found: list[dict[str, Any]] = Axe().run(shown).response["violations"]
    grave = {
        fault["id"]: [node["html"][:120] for node in fault["nodes"][:3]]
        for fault in found
        if fault["impact"] in GRAVE
    }
    assert grave == {}
    wide = shown.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, "no horizontal scroll bar at 1280 pixels"
