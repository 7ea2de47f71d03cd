"""The Stragglers page in a real browser, on the toy run that is known (conftest.py)."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Tab
from tests.browser.pointing import click_figure

pytestmark = pytest.mark.browser


def test_a_click_on_a_cell_opens_the_step_in_the_timeline(tab: Tab) -> None:
    page = tab.open("/stragglers?theme=dark")
    # Without the first, which warms up, three columns: steps 1, 2 and 3; two rows.
    click_figure(page, "stragglers-work", page.locator("#stragglers-work .nsewdrag"))
    page.wait_for_url("**/timeline?*t0=200000000&t1=300000000*")
