"""Groups of the mesh in the timeline, folded and sorted, in a real browser.

Eight ranks, pp 2 x dp 2 x tp 2; rank 5 works longest, then rank 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import MS, Tab, served, watched_tab
from tests.browser.timeline_page import AXIS, query, search_for, shown_ranks, until
from tests.support.toy import Event, RankFacts, write_run

pytestmark = pytest.mark.browser

RANKS = range(8)
LONGER = {5: 20 * MS, 2: 10 * MS}


@pytest.fixture(scope="module")
def mesh_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run = write_run(
        tmp_path_factory.mktemp("runs") / "mesh",
        {
            rank: [
                Event(start=0, duration=60 * MS, kind="step", name="step"),
                Event(start=0, duration=20 * MS + LONGER.get(rank, 0), kind="forward", name="F",
                      stage=rank // 4, microbatch=0),
            ]
            for rank in RANKS
        },
        facts={
            rank: RankFacts(
                coordinates={"tp": rank % 2, "dp": rank // 2 % 2, "pp": rank // 4},
                stages=(rank // 4,),
            )
            for rank in RANKS
        },
    )  # fmt: skip
    with served([run]) as url:
        yield url


@pytest.fixture
def mesh(browser: Browser, mesh_address: str) -> Iterator[Tab]:
    with watched_tab(browser, mesh_address, color_scheme="light") as tab:
        yield tab


def test_groups_fold_by_key_and_by_click_and_stay_folded(mesh: Tab) -> None:
    page = mesh.open_timeline()
    assert shown_ranks(page) == list(RANKS)
    page.keyboard.press("x")
    page.wait_for_url("**fold=*")
    until(page, lambda: shown_ranks(page) == [0, 4])
    page.reload()
    page.wait_for_selector("#timeline[data-ready=true]")
    assert shown_ranks(page) == [0, 4]
    page.keyboard.press("x")
    until(page, lambda: shown_ranks(page) == list(RANKS))

    box = page.locator("[data-part=frame] > canvas").bounding_box()
    assert box is not None
    stage, replica = AXIS + 8 + 9, AXIS + 8 + 17 + 9  # the names of stage 0 and of its dp 0
    page.mouse.click(box["x"] + 50, box["y"] + replica)
    until(page, lambda: shown_ranks(page) == [0, 2, 3, 4, 5, 6, 7])
    page.mouse.click(box["x"] + 50, box["y"] + stage)
    until(page, lambda: shown_ranks(page) == [0, 4, 5, 6, 7])
    assert query(page)["fold"] == "stage 0"


def test_ranks_are_sorted_by_what_is_chosen(mesh: Tab) -> None:
    page = mesh.open_timeline()
    page.get_by_label("Order of the ranks").select_option("work")
    until(page, lambda: shown_ranks(page) == [5, 2, 0, 1, 3, 4, 6, 7])
    page.reload()
    page.wait_for_selector("#timeline[data-ready=true]")
    until(page, lambda: shown_ranks(page) == [5, 2, 0, 1, 3, 4, 6, 7])
    page.get_by_label("Order of the ranks").select_option("rank")
    until(page, lambda: shown_ranks(page) == list(RANKS))


def test_going_to_a_folded_rank_unfolds_it(mesh: Tab) -> None:
    page = mesh.open_timeline("?fold=stage+0|stage+1")
    until(page, lambda: shown_ranks(page) == [0, 4])
    search_for(page, "rank:5")
    page.keyboard.press("Enter")
    until(page, lambda: shown_ranks(page) == [0, 4, 5, 6, 7])
    expect(page.locator("[data-part=details]")).to_contain_text("40.00 ms")
