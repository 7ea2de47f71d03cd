"""Runs that lack something: each page says what is missing and what to do, or where to go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tab, watched_tab
from tests.browser.reading import table

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shared(browser: Browser, address: str) -> Iterator[Tab]:
    """One tab for all: opening one takes longer than looking at a page."""
    with watched_tab(browser, address, viewport={"width": 1280, "height": 720}) as tab:
        yield tab


@pytest.fixture
def alone(sample_runs: list[Path]) -> int:
    """The number of the run of one rank; the one without steps comes after it."""
    return len(sample_runs) + 2


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("pipeline", "No pipeline in these steps"),
        ("communication", "one rank, which has nobody to talk to"),
        ("memory", "This run has no counter of memory"),
    ],
)
def test_one_rank_alone(shared: Tab, alone: int, path: str, said: str) -> None:
    expect(shared.open(f"/{path}?run={alone}").locator(".empty")).to_contain_text(said)


def test_a_step_time_that_changed_is_marked_and_explained(shared: Tab, alone: int) -> None:
    page = shared.open(f"/overview?run={alone}")
    expect(page.locator("#overview-steps .annotation")).to_contain_text("+50")
    (row,) = table(page)[:1]
    assert row[:2] == ["from step 10 on", "compute"]
    assert row[3:] == ["100 ms", "150 ms", "+50.0 %"]
    page.get_by_role("link", name="from step 10 on").click()
    page.wait_for_url("**/timeline?*t0=1000000000&t1=1150000000")


@pytest.mark.parametrize("path", ["overview", "pipeline", "whatif", "stragglers"])
def test_without_steps_it_leads_to_what_works(shared: Tab, alone: int, path: str) -> None:
    page = shared.open(f"/{path}?run={alone + 1}")
    empty = page.locator(".empty")
    expect(empty).to_contain_text("No step of this run is complete on every rank")
    if path == "overview":
        empty.get_by_role("link", name="The timeline").click()
        page.wait_for_selector("#timeline[data-ready=true]")
        expect(page.locator("[data-part=legend]")).to_contain_text("kernel")


def test_a_range_without_a_step_leads_back_to_all(shared: Tab, alone: int) -> None:
    page = shared.open(f"/stragglers?run={alone}&steps=90-99")
    expect(page.locator(".empty")).to_contain_text("This run has steps 0 to 19")
    page.get_by_role("link", name="Show all steps").click()
    page.wait_for_url(f"**/stragglers?run={alone}")
    expect(page.locator("#stragglers-work")).to_be_visible()


def test_a_run_that_cannot_be_compared_is_named(shared: Tab, alone: int) -> None:
    page = shared.open(f"/compare?run={alone}&vs={alone + 1}")
    expect(page.locator(".empty")).to_contain_text("stepless has no step to compare")
    page.locator("#compare-b").select_option("0")
    expect(page.locator("#compare-waterfall")).to_be_visible()
