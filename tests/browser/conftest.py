"""One headless Chromium and one dashboard for all browser tests.

The dashboard shows the toy run below, whose every event is known, and the recorded samples.
A test fails if the page logs an error or asks for anything that is not ours.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dashboard.cli.dashboard import start_server
from dashboard.run import Run
from dashboard.runs.follow import Follower
from tests.support.toy import Event, RankFacts, write_counters, write_run
from tracer.schema import events_file

PATIENCE_MS = 180_000
"""A page on a machine whose cores are all busy is slow, not wrong."""

expect.set_options(timeout=PATIENCE_MS)

SAMPLES = Path(__file__).parents[2] / "sample_traces"
MS = 1_000_000
STEP = 100 * MS
STEPS = 4
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--no-first-run",
)


def toy_events(rank: int) -> list[Event]:
    """Per step of 100 ms: F0 at 0–20, B0 at 40–80 with an all_reduce at 50–60 inside, the
    optimizer at 80–90; and 500 events of 10 µs from 90 ms on, which a whole-run view merges.
    """
    events = []
    for step in range(STEPS):
        at = step * STEP
        own = {"step": step, "stage": rank}
        events += [
            Event(start=at, duration=STEP, kind="step", name="step", step=step),
            Event(start=at, duration=20 * MS, kind="forward", name="F", microbatch=0, **own),
            Event(start=at + 40 * MS, duration=40 * MS, kind="backward", name="B",
                  microbatch=0, **own),
            Event(
                start=at + 50 * MS, duration=10 * MS, kind="collective", name="all_reduce",
                group="tp:0-1", seq=step, bytes=1 << 20, count=1 << 18, dtype="float32",
                correlation=step, **own,
            ),
            Event(start=at + 80 * MS, duration=10 * MS, kind="optimizer", name="SGD.step",
                  step=step),
        ]  # fmt: skip
        events += [
            Event(start=at + 90 * MS + i * 20_000, duration=10_000, kind="user", name="<b>log</b>")
            for i in range(500)
        ]
    return events


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages on two ranks, four steps; rank 1 takes 300 MB at most, in step 1, rank 0 200."""
    run = write_run(
        tmp_path_factory.mktemp("runs") / "toy",
        {rank: toy_events(rank) for rank in (0, 1)},
        facts={
            rank: RankFacts(
                coordinates={"pp": rank},
                stages=(rank,),
                groups={"tp:0-1": {"dim": "tp", "ranks": [0, 1]}},
            )
            for rank in (0, 1)
        },
    )
    for rank, most in ((0, 2e8), (1, 3e8)):
        samples = [
            (at * MS, "memory.allocated/bytes", size) for at, size in ((50, 1e8), (150, most))
        ]
        write_counters(run, rank, samples)
    return run


@pytest.fixture(scope="session")
def sample_runs() -> list[Path]:
    """The recorded runs of the repository."""
    found = sorted(path.parent for path in SAMPLES.glob("*/run.json"))
    assert found, f"no recorded runs in {SAMPLES}"
    return found


@pytest.fixture(scope="session")
def damaged_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks, of which the second one's events cannot be read."""
    events = {rank: toy_events(rank) for rank in (0, 1)}
    run = write_run(tmp_path_factory.mktemp("runs") / "damaged", events)
    (run / events_file(1)).write_bytes(b"no longer Arrow")
    return run


@pytest.fixture(scope="session")
def odd_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One rank alone, whose ten steps take 100 ms and then 150; and two ranks without steps."""
    place = tmp_path_factory.mktemp("odd")
    alone = []
    for step in range(20):
        slow = step >= 10
        at = step * STEP + (step - 10) * STEP // 2 * slow
        took = STEP * 3 // 2 if slow else STEP
        # A little of its own each time: ten equal values would be no measurement.
        work = took - 10 * MS + step % 3 * MS
        alone += [
            Event(start=at, duration=took, kind="step", name="step", step=step),
            Event(start=at, duration=work, kind="forward", name="F", step=step),
        ]
    kernels = [
        Event(
            start=i * MS, duration=MS // 2, kind="kernel", name="gemm", lane="stream:7", step=None
        )
        for i in range(20)
    ]
    return [
        write_run(place / "alone", {0: alone}),
        write_run(place / "stepless", {0: kernels, 1: kernels}),
    ]


@pytest.fixture(scope="session")
def address(
    toy_run: Path, sample_runs: list[Path], damaged_run: Path, odd_runs: list[Path]
) -> Iterator[str]:
    """A running dashboard: the toy is run 0; the samples, the damaged and the odd ones follow."""
    with served([toy_run, *sample_runs, damaged_run, *odd_runs]) as url:
        yield url


@contextlib.contextmanager
def served(runs: Sequence[Path], *, followers: Sequence[Follower[Run]] = ()) -> Iterator[str]:
    """The address of a dashboard that shows these runs, until the end of the block."""
    server, url = start_server(runs, followers=followers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield url.rstrip("/")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium that is on PATH."""
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    assert executable, "no Chromium on PATH: `make browser` installs one"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield chromium
        chromium.close()


@dataclass
class Tab:
    """A browser tab on the dashboard, and what it complained of."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Load a page of the dashboard and wait until its content is there."""
        self.page.goto(self.address + path)
        self.page.wait_for_selector("#shell-page > :not(.page-loading)")
        return self.page

    def open_timeline(self, query: str = "") -> Page:
        """The timeline, once it has the events of its window, and not only those of the run."""
        page = self.open(f"/timeline{query}")
        page.wait_for_selector("#timeline[data-ready=true][data-fetched]")
        return page

    def watch(self) -> None:
        """Note every error in the console and every request that leaves the dashboard."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("request", self._on_request)

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"request to {request.url}")


@contextlib.contextmanager
def watched_tab(browser: Browser, address: str, **options: Any) -> Iterator[Tab]:
    """A fresh browser window, 1280×800 by default; an error at its end if the page complained."""
    context = new_context(browser, **options)
    with _watched_page(context, address) as tab:
        yield tab
    context.close()


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    """A browser window that knows nothing of the others."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
    context.set_default_timeout(PATIENCE_MS)
    return context


@contextlib.contextmanager
def _watched_page(context: BrowserContext, address: str) -> Iterator[Tab]:
    tab = Tab(context.new_page(), address)
    tab.watch()
    yield tab
    tab.page.close()
    assert tab.complaints == []


@pytest.fixture(scope="session")
def visited(browser: Browser, address: str) -> Iterator[Page]:
    """A page beside the tests' own, in whose window the scripts of the dashboard stay compiled.

    A first visit compiles plotly anew, which takes a second of processor time.
    """
    context = new_context(browser, color_scheme="light")
    page = context.new_page()
    page.goto(f"{address}/assets/favicon.svg")
    yield page
    context.close()


@pytest.fixture
def tab(visited: Page, address: str) -> Iterator[Tab]:
    """A light tab for one test, where nothing is kept from the tests before."""
    visited.evaluate("localStorage.clear()")
    visited.context.clear_cookies()
    with _watched_page(visited.context, address) as tab:
        yield tab
