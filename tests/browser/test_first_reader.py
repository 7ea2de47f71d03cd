"""A first-time reader finds the slow stage of the sample with the clicks of docs/dashboard.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Tab
from tests.browser.reading import traces
from tests.test_repo.markdown import ROOT

pytestmark = pytest.mark.browser

SAMPLE = "pp4-1f1b-slow-stage"
HEAD = "## The slow stage of the sample, in three clicks"


def test_the_slow_stage_is_found_by_the_written_clicks(tab: Tab, sample_runs: list[Path]) -> None:
    text = (ROOT / "docs" / "dashboard.md").read_text(encoding="utf-8")
    written = text.partition(HEAD)[2].partition("\n## ")[0]
    number = [path.name for path in sample_runs].index(SAMPLE) + 1

    page = tab.open(f"/overview?run={number}")
    sentence = page.locator(".finding .lead a")
    expect(sentence).to_contain_text("Stage 2 computes 47 % longer than the median")
    assert "Stage 2 computes 47 % longer" in written

    sentence.click()
    expect(page.locator("a[aria-current=page]")).to_have_text("Pipeline")
    parts = traces(page, "pipeline-parts")
    bubble = [
        sum(part["x"][rank] for part in parts.values() if part["x"] and len(part["x"]) == 4)
        for rank in range(4)
    ]
    assert min(range(4), key=bubble.__getitem__) == 2
    assert "*rank 2 · stage 2*" in written

    page.get_by_role("link", name="Stragglers", exact=True).click()
    row = page.locator("#stragglers-table tbody tr")
    expect(row).to_contain_text("stage 2 computes 47 % longer than the other stages; only rank 2")
    assert "**Stragglers**" in written

    step = row.get_by_role("link")
    expect(step).to_have_text("step 6")
    assert "**step 6**" in written
    step.click()
    page.wait_for_url("**/timeline?*t0=*")
    page.wait_for_selector("#timeline[data-ready=true]")
