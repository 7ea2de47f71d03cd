"""Take the pictures in docs/images/: every page of the dashboard, light and dark, on real samples.

python scripts/screenshots.py [--out docs/images] [PAGE …]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from dashboard.cli.dashboard import start_server
from dashboard.pages.app import PAGES

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_traces"
FIRST, SECOND, THIRD = "pp4-1f1b-slow-stage", "pp4-1f1b-balanced", "pp2-tp2-1f1b"
"""The run that is shown, what Compare holds it against, and one with collectives."""

WIDTH, HEIGHT, MOST = 1280, 800, 1500
"""Pixels: a page is shown whole, from a laptop's height up to what fits a document."""
PATIENCE_MS = 180_000
COLOURS = 255
"""Of a picture: few pages have more, and the files are a third as large."""
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
VIEWS = {
    "Communication": "run=2",
    "What-if": "balance=1&comm_pp=4",
    "Compare": "vs=1",
    "Query": "sql=select+stage%2C+kind%2C+count%28%2A%29+as+n%2C+median%28duration%29+%2F+1e6+as+"
    "median_ms%0Afrom+events%0Awhere+kind+in+%28%27forward%27%2C+%27backward%27%29%0A"
    "group+by+all%0Aorder+by+kind%2C+stage",
}
"""What is chosen on a page, so that the picture shows what the page is for."""
KEYS = {"Timeline": "]"}
"""Pressed before the picture is taken: the timeline shows one step, where boxes have numbers."""
DRAWN = """[...document.querySelectorAll('.dash-graph')]
    .every((graph) => graph.querySelector('.main-svg'))"""
"""Plotly is loaded when the first figure is there, so that the network is idle before it draws."""


def main() -> None:
    """Serve the samples and photograph each page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="by their names; all by default")
    asked = parser.parse_args()
    pages = [page for page in PAGES if not asked.pages or page.TITLE in asked.pages]
    asked.out.mkdir(parents=True, exist_ok=True)
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        raise SystemExit("No Chromium on PATH: `make browser` installs one.")
    with tempfile.TemporaryDirectory() as place:
        of_samples = served([SAMPLES / name for name in (FIRST, SECOND, THIRD)])
        with of_samples as address, ExitStack() as open_, sync_playwright() as playwright:
            addresses = {page.TITLE: address for page in pages}
            if "Memory" in addresses:
                run = record(Path(place) / "pp4-1f1b-memory")
                addresses["Memory"] = open_.enter_context(served([run]))
            browser = playwright.chromium.launch(
                executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
            )
            for theme in ("light", "dark"):
                for page in pages:
                    tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                    tab.set_default_timeout(PATIENCE_MS)
                    picture = asked.out / f"{page.TITLE.lower()}-{theme}.png"
                    take(tab, addresses[page.TITLE], page, theme, picture)
                    tab.close()
            browser.close()


def record(run: Path) -> Path:
    """A run with memory sampled often: the samples are older than that counter."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4",
        "-m", "tracer", "--out", str(run), "examples/train_pipeline.py",
        "--schedule", "1F1B", "--microbatches", "8", "--steps", "8", "--work-ms", "10",
        "--rows", "32", "--width", "128",
    ]  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "RANKSCOPE_FLUSH_S": "0.1",
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return run


@contextmanager
def served(runs: list[Path]) -> Iterator[str]:
    """The address of a dashboard for these runs."""
    server, url = start_server(runs)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield url.rstrip("/")
    server.shutdown()


def take(tab: Page, address: str, page: ModuleType, theme: str, picture: Path) -> None:
    """One picture, once everything that the page asks for is there and drawn."""
    view = VIEWS.get(page.TITLE, "")
    tab.goto(f"{address}{page.PATH}?theme={theme}" + (f"&{view}" if view else ""))
    tab.wait_for_selector("#shell-page > :not(.page-loading)")
    tab.wait_for_load_state("networkidle")
    if page.TITLE in KEYS:
        tab.keyboard.press(KEYS[page.TITLE])
        tab.wait_for_url("**t0=*")
        tab.wait_for_load_state("networkidle")
    whole = tab.evaluate("document.documentElement.scrollHeight")
    tab.set_viewport_size({"width": WIDTH, "height": min(max(whole, HEIGHT), MOST)})
    tab.wait_for_function(DRAWN)
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    small(tab.screenshot()).save(picture, optimize=True)
    print(f"{picture}  {picture.stat().st_size:,} bytes")


def small(png: bytes) -> Image.Image:
    """The picture with a palette that is off by a few levels at most, rare colours included."""
    whole = Image.open(BytesIO(png)).convert("RGB")
    return whole.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
