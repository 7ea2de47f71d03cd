"""A dashboard that follows a run: two real processes record, and the browser shows new steps."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from dashboard.run import Run, open_run
from dashboard.runs.follow import Follower
from tests.browser.conftest import Tab, new_context, served
from tests.support.launching import ROOT, environment
from tests.test_repo.markdown import ROOT as REPO

pytest.importorskip("torch.distributed", reason="records a run")

STEPS = 100_000
"""More than anybody waits for: the last test ends the training."""


@dataclass(frozen=True)
class Recording:
    """A run that is being recorded, the dashboard that follows it, and the training."""

    path: Path
    address: str
    training: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """Two ranks, steps of 50 ms and more."""
    path = tmp_path_factory.mktemp("live") / "run"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "tracer", "--out", str(path), str(ROOT / "examples" / "train_pipeline.py"),
        "--steps", str(STEPS), "--microbatches", "4", "--work-ms", "6",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=REPO, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    follower = Follower(path, Run)
    with served([path], followers=[follower]) as url:
        yield Recording(path, url, process)
        process.terminate()
        process.wait()
        follower.stop()


@pytest.fixture(scope="module")
def live(browser: Browser, recording: Recording) -> Iterator[Tab]:
    context = new_context(browser, viewport={"width": 1280, "height": 720})
    tab = Tab(context.new_page(), recording.address)
    tab.watch()
    yield tab
    context.close()
    assert tab.complaints == []


def open_timeline(live: Tab) -> Page:
    """Not the events of its window as well: they are asked for anew whenever the run has grown."""
    page = live.open("/timeline")
    page.wait_for_selector("#timeline[data-ready=true]")
    return page


def shown_range(page: Page) -> str:
    return page.locator('[data-part="range"]').text_content() or ""


def as_quiet(route: Route) -> None:
    """The page as it is laid out where nothing had come for a while."""
    reply = route.fetch()
    route.fulfill(
        response=reply, body=re.sub(r'(data-state": ?)"live"', r'\1"quiet"', reply.text())
    )


def test_1_the_timeline_goes_on_until_it_is_moved(live: Tab) -> None:
    """Also where it is there before anything says that the run is live."""
    page = live.page
    page.route("**/_dash-layout", as_quiet)
    page.route("**/api/live", lambda route: route.fulfill(json={}))
    open_timeline(live)
    page.unroute_all()
    badge = page.locator("#shell-live")
    # Two processes import torch first.
    expect(badge).to_contain_text("Live · step")
    for _ in range(2):
        before = shown_range(page)
        expect(page.locator('[data-part="range"]')).not_to_have_text(before)
    assert "t0=" not in page.url

    page.locator("#timeline canvas").first.hover()
    page.mouse.wheel(0, -300)
    page.wait_for_url("**t0=*")
    moved = shown_range(page)
    generation = int(badge.get_attribute("data-generation") or 0)
    page.wait_for_function(
        "g => Number(document.getElementById('shell-live').dataset.generation) > g + 1",
        arg=generation,
    )
    assert shown_range(page) == moved, "what the user chose stays"

    badge.click()
    expect(page.locator('[data-part="range"]')).not_to_have_text(moved)
    assert "t0=" not in page.url


def test_2_pages_are_laid_out_again(live: Tab) -> None:
    page = live.open("/overview")
    drawn = page.locator("#shell-drawn")
    for _ in range(2):
        before = drawn.get_attribute("data-generation") or ""
        expect(drawn).not_to_have_attribute("data-generation", before)


def test_3_when_nothing_comes_any_more_it_says_so_and_shows_all(
    live: Tab, recording: Recording
) -> None:
    page = open_timeline(live)
    recording.training.terminate()
    recording.training.wait()
    run = open_run(recording.path)
    expect(page.locator("#shell-live")).to_have_text(f"No news · step {run.steps[-1]}")
    page.wait_for_function(
        "n => fetch('/api/timeline/0/lanes').then(r => r.json()).then(l => l.steps.told === n)",
        arg=run.steps[-1],
    )
