"""Take the pictures in docs/images/: every page of the dashboard, light and dark, on real samples.

python scripts/screenshots.py [--out docs/images]
"""

from __future__ import annotations

import argparse
import shutil
import threading
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from dashboard.cli.dashboard import start_server
from dashboard.pages.app import PAGES

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_traces"
FIRST, SECOND = "pp4-1f1b-slow-stage", "pp4-1f1b-balanced"
"""The run that is shown, and what Compare holds it against."""

SIZE = {"width": 1280, "height": 800}
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
KEYS = {"Timeline": "]"}
"""Pressed before the picture is taken: the timeline shows one step, where boxes have numbers."""


def main() -> None:
    """Serve the samples and photograph each page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    server, url = start_server([SAMPLES / FIRST, SAMPLES / SECOND])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        raise SystemExit("No Chromium on PATH: `make browser` installs one.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
        )
        for theme in ("light", "dark"):
            for page in PAGES:
                tab = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
                picture = out / f"{page.TITLE.lower()}-{theme}.png"
                take(tab, f"{url.rstrip('/')}{page.PATH}?vs=1&theme={theme}", page.TITLE, picture)
                tab.close()
        browser.close()
    server.shutdown()


def take(tab: Page, address: str, title: str, picture: Path) -> None:
    """One picture, once everything that the page asks for is there and drawn."""
    tab.goto(address)
    tab.wait_for_selector("#shell-page > :not(.page-loading)")
    tab.wait_for_load_state("networkidle")
    if title in KEYS:
        tab.keyboard.press(KEYS[title])
        tab.wait_for_url("**t0=*")
        tab.wait_for_load_state("networkidle")
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    tab.screenshot(path=picture)
    print(picture)


if __name__ == "__main__":
    main()
