"""The timeline in a real browser: zoom, pan, keys, details, legend, Back and reload.

Places on the canvas follow from the toy run of conftest.py and from the drawing: lanes begin
GUTTER pixels from the left and AXIS pixels from the top (paint.mjs, rows.mjs).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import MS, STEP, STEPS, Tab

pytestmark = pytest.mark.browser

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


def test_the_wheel_zooms_at_the_pointer(tab: Tab) -> None:
    page = at_step_1(tab)
    anchor = STEP + 25 * MS
    page.mouse.move(*place(page, anchor))
    before = page.url
    page.mouse.wheel(0, -400)
    page.wait_for_function("before => location.href !== before", arg=before)
    start, end = window(page)
    assert end - start < 0.6 * STEP
    assert (anchor - start) / (end - start) == pytest.approx(0.25, abs=0.01)


def test_dragging_pans_and_shift_dragging_marks_a_stretch(tab: Tab) -> None:
    page = at_step_1(tab)
    from_, to = place(page, STEP + 60 * MS), place(page, STEP + 40 * MS)
    page.mouse.move(*from_)
    page.mouse.down()
    page.mouse.move(*to, steps=4)
    page.mouse.up()
    page.wait_for_url(lambda url: f"t0={STEP}&" not in url)
    start, end = window(page)
    assert start == pytest.approx(STEP + 20 * MS, abs=MS)
    assert end - start == STEP

    from_, to = place(page, STEP + 40 * MS), place(page, STEP + 80 * MS)
    page.mouse.move(*from_)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(*to, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.wait_for_url("**mark=*")
    marked = [int(edge) for edge in query(page)["mark"].split("-")]
    assert marked == pytest.approx([STEP + 40 * MS, STEP + 80 * MS], abs=MS)
    page.keyboard.press("z")
    page.wait_for_url(lambda url: f"t0={start}&" not in url)
    assert window(page) == pytest.approx(marked, abs=2)


@pytest.mark.parametrize(
    ("key", "shift", "scale"),
    [
        ("w", 0, 1 / 1.35),
        ("s", 0, 1.35),
        ("d", 0.15, 1),
        ("a", -0.15, 1),
        ("ArrowRight", 0.15, 1),
        ("ArrowLeft", -0.15, 1),
    ],
)
def test_keys_pan_and_zoom(tab: Tab, key: str, shift: float, scale: float) -> None:
    page = at_step_1(tab)
    before = page.url
    page.keyboard.press(key)
    page.wait_for_function("before => location.href !== before", arg=before)
    start, end = window(page)
    assert end - start == pytest.approx(scale * STEP, rel=1e-3)
    assert (start + end) / 2 == pytest.approx((1.5 + shift) * STEP, rel=1e-3)


def test_brackets_go_from_step_to_step_and_f_fits(tab: Tab) -> None:
    page = at_step_1(tab)
    page.keyboard.press("]")
    page.wait_for_url(lambda url: f"t0={STEP}&" not in url)
    start, end = window(page)
    assert start < 2 * STEP < 3 * STEP < end < 3.1 * STEP
    page.keyboard.press("[")
    page.wait_for_url(lambda url: f"t0={start}&" not in url)
    assert window(page)[0] == pytest.approx(STEP, abs=0.03 * STEP)
    page.keyboard.press("f")
    page.wait_for_url(lambda url: "t0=" not in url)
    expect(page.locator("[data-part=range]")).to_contain_text(f"{STEPS * 100}.0 ms wide")


def test_a_click_shows_all_fields_and_escape_puts_them_away(tab: Tab) -> None:
    page = at_step_1(tab)
    page.mouse.click(*place(page, STEP + 55 * MS, NESTED_ROW_Y))
    details = page.locator("[data-part=details]")
    expect(details).to_be_visible()
    for text in ("collective", "all_reduce", "tp:0-1", "10.00 ms", "1,048,576 bytes", "float32"):
        expect(details).to_contain_text(text)
    assert query(page)["sel"].startswith("0.")
    page.keyboard.press("Escape")
    expect(details).to_be_hidden()
    assert "sel" not in query(page)


def test_hovering_names_the_event_and_counts_merged_ones(tab: Tab) -> None:
    page = at_step_1(tab)
    tooltip = page.locator("[data-part=tooltip]")
    page.mouse.move(*place(page, STEP + 60 * MS))
    expect(tooltip).to_contain_text("backward, microbatch 0")
    expect(tooltip).to_contain_text("40.00 ms")
    page.mouse.move(*place(page, STEP + 95 * MS))
    expect(tooltip).to_contain_text("events, 100 % user")


def test_a_reload_and_a_shared_link_show_the_same_view(tab: Tab) -> None:
    page = at_step_1(tab)
    page.mouse.click(*place(page, STEP + 10 * MS))
    expect(page.locator("[data-part=details]")).to_contain_text("forward, microbatch 0")
    page.keyboard.press("w")
    page.wait_for_url(lambda url: f"t0={STEP}&" not in url)
    url, shown = page.url, page.locator("[data-part=range]").inner_text()
    page.reload()
    page.wait_for_selector("#timeline[data-ready=true]")
    expect(page.locator("[data-part=details]")).to_contain_text("forward, microbatch 0")
    expect(page.locator("[data-part=range]")).to_have_text(shown)
    assert page.url == url


def test_back_restores_selection_and_window(tab: Tab) -> None:
    page = at_step_1(tab)
    shown = page.locator("[data-part=range]").inner_text()
    page.keyboard.press("]")
    page.wait_for_url(lambda url: f"t0={STEP}&" not in url)
    page.go_back()
    expect(page.locator("[data-part=range]")).to_have_text(shown)
    page.mouse.click(*place(page, STEP + 10 * MS))
    expect(page.locator("[data-part=details]")).to_be_visible()
    page.go_back()
    expect(page.locator("[data-part=details]")).to_be_hidden()


def test_leaving_and_coming_back_keeps_the_window(tab: Tab) -> None:
    page = at_step_1(tab)
    shown = page.locator("[data-part=range]").inner_text()
    page.locator(".nav-link:not([aria-current])").first.click()
    expect(page.locator("#timeline")).to_have_count(0)
    page.get_by_role("link", name="Timeline", exact=True).click()
    expect(page.locator("[data-part=range]")).to_have_text(shown)


def pixels_of(page: Page, kind: str) -> int:
    """How many pixels of the canvas have the colour of a kind."""
    return int(
        page.evaluate(
            """kind => {
              const canvas = document.querySelector("[data-part=frame] > canvas");
              const style = getComputedStyle(document.documentElement);
              const hex = style.getPropertyValue(`--kind-${kind}`).trim();
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
            kind,
        )
    )


def test_the_legend_hides_and_shows_a_kind(tab: Tab) -> None:
    page = at_step_1(tab)
    button = page.locator(".legend-item[data-kind=backward]")
    expect(button).to_have_attribute("aria-pressed", "true")
    shown = pixels_of(page, "backward")
    assert shown > 1000
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    page.wait_for_url("**hide=backward*")
    page.evaluate("new Promise(requestAnimationFrame)")
    assert pixels_of(page, "backward") == 0
    assert pixels_of(page, "forward") > 1000
    page.go_back()
    expect(button).to_have_attribute("aria-pressed", "true")


def test_the_critical_path_is_drawn_and_survives_a_reload(tab: Tab) -> None:
    page = at_step_1(tab)
    page.mouse.move(5, 5)
    before = _until(page, lambda: _picture(page))
    page.keyboard.press("p")
    page.wait_for_url("**path=1*")
    expect(page.locator("[data-part=path]")).to_have_attribute("aria-pressed", "true")
    _until(page, lambda: _picture(page) not in ("", before))
    drawn = _picture(page)
    page.reload()
    page.locator("#timeline[data-ready]").wait_for()
    _until(page, lambda: _picture(page) == drawn)
    page.locator("[data-part=path]").click()
    page.mouse.move(5, 5)
    _until(page, lambda: _picture(page) == before)
    assert "path" not in query(page)


def _picture(page: Page) -> str:
    """The lanes' own pixels, once two frames in a row are alike; nothing until then."""
    canvas = page.locator("[data-part=frame] > canvas").first
    first, second = (canvas.evaluate(_PIXELS) for _ in range(2))
    return first if first == second else ""


_PIXELS = """async (canvas) => {
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return canvas.toDataURL();
}"""


def _until(page: Page, met: Callable[[], Any]) -> Any:
    """What `met` returns once it is true; a minute is for machines with much else to do."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        found = met()
        if found:
            return found
        page.wait_for_timeout(100)
    raise AssertionError("timed out")


def test_events_are_drawn_as_long_as_they_are(tab: Tab) -> None:
    page = at_step_1(tab)
    forward = _until(page, lambda: pixels_of(page, "forward"))
    backward = pixels_of(page, "backward")
    assert backward / forward == pytest.approx(40 / 20, rel=0.08)  # labels cost some pixels


def test_colours_follow_the_theme(tab: Tab) -> None:
    page = at_step_1(tab)
    page.click("#shell-theme")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.evaluate("new Promise(requestAnimationFrame)")
    assert pixels_of(page, "backward") > 1000


def test_the_canvas_is_as_sharp_as_the_screen(tab: Tab) -> None:
    page = tab.page
    context = page.context.browser.new_context(  # type: ignore[union-attr]
        viewport={"width": 1000, "height": 700}, device_scale_factor=2
    )
    sharp = Tab(context.new_page(), tab.address)
    sharp.watch()
    sharp.open_timeline()
    canvas = sharp.page.locator("[data-part=frame] > canvas")
    box = canvas.bounding_box()
    assert box is not None
    assert canvas.evaluate("c => [c.width, c.height]") == [2 * box["width"], 2 * box["height"]]
    sharp.page.set_viewport_size({"width": 800, "height": 700})
    sharp.page.wait_for_function(
        "wide => document.querySelector('[data-part=frame] > canvas').width < wide",
        arg=2 * box["width"],
    )
    context.close()
    assert sharp.complaints == []


def test_help_names_the_keys_and_the_frame_has_a_name(tab: Tab) -> None:
    page = at_step_1(tab)
    expect(page.get_by_role("application", name="Timeline of toy")).to_be_visible()
    page.keyboard.press("?")
    help_box = page.locator("[data-part=help-box]")
    expect(help_box).to_be_visible()
    expect(help_box).to_contain_text("previous, next step")
    page.keyboard.press("Escape")
    expect(help_box).to_be_hidden()


def test_names_from_a_trace_are_never_markup(tab: Tab) -> None:
    page = tab.open_timeline(f"?t0={STEP + 90 * MS}&t1={STEP + 90 * MS + 100_000}")
    page.mouse.move(*place(page, STEP + 90 * MS + 5_000))
    tooltip = page.locator("[data-part=tooltip]")
    expect(tooltip).to_contain_text("<b>log</b>")
    assert tooltip.locator("b").count() == 0
