"""The Communication page in a real browser: on the toy run (conftest.py) and a recorded one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import Tab
from tests.browser.reading import saved_table, table, traces

pytestmark = pytest.mark.browser

MIB = 1 << 20


def test_bandwidth_of_the_toys_all_reduce(tab: Tab) -> None:
    points = traces(tab.open("/communication"), "communication-busbw")
    # 1 MiB in 10 ms, both ranks at once; the factor of all_reduce for 2 ranks is 1. In MB/s.
    free = points["tp all_reduce, skew-free"]
    assert free["x"] == [MIB]
    assert free["y"] == pytest.approx([MIB / 10e6 * 1e3])
    assert points["tp all_reduce, as seen"]["y"] == free["y"]


def test_the_table_can_be_saved_with_all_digits(tab: Tab) -> None:
    page = tab.open("/communication")
    (row,) = table(page)
    assert row[:6] == ["tp:0-1", "all_reduce", "2", "4", "0", "4.19 MB"]
    (saved,) = saved_table(page)
    assert int(saved["bytes_total"]) == 4 * MIB
    assert float(saved["busbw_skew_free"]) == pytest.approx(MIB / 10e6)


def test_messages_of_a_recorded_pipeline_go_to_neighbours_only(
    tab: Tab, sample_runs: list[Path]
) -> None:
    names = [path.name for path in sample_runs]
    page = tab.open(f"/communication?run={names.index('pp4-gpipe') + 1}")
    sent = next(iter(traces(page, "communication-bytes").values()))["z"]
    for source, row in enumerate(sent):
        reached = {rank for rank, value in enumerate(row) if value}
        assert reached == {rank for rank in (source - 1, source + 1) if 0 <= rank < 4}


def test_the_chosen_steps_survive_a_reload(tab: Tab) -> None:
    page = tab.open("/communication?steps=2")
    for _ in range(2):
        (row,) = table(page)
        assert row[3] == "1"
        page.reload()
        page.wait_for_selector(".data-table")
