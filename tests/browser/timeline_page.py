"""What the tests of the timeline share: places on its canvas, its pixels, its address.

Places on the canvas follow from the toy run of conftest.py and from the drawing: lanes begin
GUTTER pixels from the left and AXIS pixels from the top (frame.mjs, rows.mjs).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlparse

from playwright.sync_api import Page, expect

from tests.browser.conftest import PATIENCE_MS, STEP, Tab

GUTTER, AXIS = 132, 44
FIRST_ROW_Y = AXIS + 25
NESTED_ROW_Y = AXIS + 8 + 76 + 20  # below the gap above a rank and its first row


def query(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


def window(page: Page) -> tuple[int, int]:
    page.wait_for_url("**t0=*")
    return int(query(page)["t0"]), int(query(page)["t1"])


def place(page: Page, ns: float, y: float = FIRST_ROW_Y) -> tuple[float, float]:
    """Where on the screen a moment is, for a URL that names the window."""
    box = page.locator("[data-part=frame] > canvas").bounding_box()
    assert box is not None
    start, end = (int(query(page)[edge]) for edge in ("t0", "t1"))
    return box["x"] + GUTTER + (ns - start) / (end - start) * (box["width"] - GUTTER), box["y"] + y


def at_step_1(tab: Tab) -> Page:
    return tab.open_timeline(f"?t0={STEP}&t1={2 * STEP}")


def shown_ranks(page: Page) -> list[int]:
    """The ranks that have rows, from top to bottom."""
    text = page.locator("#timeline").get_attribute("data-ranks") or ""
    return [int(rank) for rank in text.split(",") if rank]


def search_for(page: Page, text: str) -> None:
    """Type into the search field and wait until the hits are counted."""
    page.keyboard.press("/")
    page.keyboard.type(text)
    expect(page.locator("[data-part=search-count]")).not_to_be_empty()


def mark(page: Page, start: float, end: float, y: float = FIRST_ROW_Y) -> None:
    """Drag with Shift from one moment to another."""
    from_, to = place(page, start, y), place(page, end, y)
    page.mouse.move(*from_)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(*to, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")


def pixels_of(page: Page, kind: str) -> int:
    """How many pixels of the canvas have the colour of a kind."""
    return pixels_coloured(page, f"kind-{kind}")


def pixels_coloured(page: Page, variable: str) -> int:
    """How many pixels of the canvas have the colour of a CSS variable."""
    return int(
        page.evaluate(
            """variable => {
              const canvas = document.querySelector("[data-part=frame] > canvas");
              const style = getComputedStyle(document.documentElement);
              const hex = style.getPropertyValue(`--${variable}`).trim();
              const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
              const copy = new OffscreenCanvas(canvas.width, canvas.height)
                .getContext("2d", { willReadFrequently: true });
              copy.drawImage(canvas, 0, 0);
              const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
              let count = 0;
              for (let i = 0; i < data.length; i += 4) {
                if (data[i] === r && data[i + 1] === g && data[i + 2] === b) count += 1;
              }
              return count;
            }""",
            variable,
        )
    )


def picture(page: Page) -> str:
    """The lanes' own pixels, once two frames in a row are alike; nothing until then."""
    canvas = page.locator("[data-part=frame] > canvas").first
    first, second = (canvas.evaluate(_PIXELS) for _ in range(2))
    return first if first == second else ""


_PIXELS = """async (canvas) => {
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return canvas.toDataURL();
}"""


def until(page: Page, met: Callable[[], Any]) -> Any:
    """What `met` returns once it is true."""
    ends = time.monotonic() + PATIENCE_MS / 1_000
    while time.monotonic() < ends:
        found = met()
        if found:
            return found
        page.wait_for_timeout(100)
    raise AssertionError("timed out")
