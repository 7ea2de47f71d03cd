"""The timeline in a real browser: zoom, pan, keys, legend, Back and reload, theme and sharpness."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import MS, STEP, STEPS, Tab, watched_tab
from tests.browser.timeline_page import GUTTER, at_step_1, pixels_of, place, until, window

pytestmark = pytest.mark.browser


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


def test_dragging_pans(tab: Tab) -> None:
    page = at_step_1(tab)
    from_, to = place(page, STEP + 60 * MS), place(page, STEP + 40 * MS)
    page.mouse.move(*from_)
    page.mouse.down()
    page.mouse.move(*to, steps=4)
    page.mouse.up()
    # a slow drag is told to the URL in parts
    until(page, lambda: window(page)[0] == pytest.approx(STEP + 20 * MS, abs=MS))
    start, end = window(page)
    assert end - start == STEP


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


def test_the_step_in_the_middle_is_found_without_going_through_all(tab: Tab) -> None:
    """The nearest, as going through all says, and few looks at 100,000 steps once it has sorted."""
    page = at_step_1(tab)
    found = page.evaluate(
        """async () => {
          const { Steps } = await import("/assets/timeline/steps.mjs");
          let looks = 0;
          const counted = (values) =>
            new Proxy(values, { get: (of, at) => ((looks += at !== "length"), of[at]) });
          const steps = (count) => {
            const number = [...Array(count).keys()];
            // Each overlaps the next, by as much as it likes.
            const start = number.map((n) => 10 * n + 3 * Math.sin(n));
            const end = number.map((n) => 10 * n + 13 + 3 * Math.cos(n));
            return { number, start, end };
          };
          const of = (lanes) => new Steps({ lanes: { steps: lanes, span: [0, 0] } });
          // Clocks are apart, and the rank whose clock is ahead ends after eleven steps.
          const apart = steps(40);
          apart.end = apart.number.map((n) => 10 * n + (n > 10 ? 10 : 71));
          const wrong = [];
          for (const { number, start, end } of [...[1, 2, 3, 40].map(steps), apart]) {
            for (let ns = -5.25; ns < 10 * number.length + 60; ns += 0.7) {
              const away = number.map((n) => Math.abs((start[n] + end[n]) / 2 - ns));
              const nearest = away.indexOf(Math.min(...away));
              if (of({ number, start, end }).nearest(ns) !== nearest) wrong.push([start, ns]);
            }
          }
          const many = steps(100_000);
          const { start, end, number } = many;
          const watched = { start: counted(start), end: counted(end), number: counted(number) };
          const seen = of(watched);
          seen.nearest(0); // sorts them
          looks = 0;
          const nearest = seen.nearest((start[77_777] + end[77_777]) / 2);
          const span = seen.span(77_776, 77_778);
          const spans = span[0] === start[77_776] && span[1] === end[77_778];
          return { wrong, nearest, spans, looks };
        }"""
    )
    looks = found.pop("looks")
    assert found == {"wrong": [], "nearest": 77_777, "spans": True}
    assert looks < 100


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


def test_the_legend_hides_and_shows_a_kind(tab: Tab) -> None:
    page = at_step_1(tab)
    button = page.locator(".legend-item[data-kind=backward]")
    expect(button).to_have_attribute("aria-pressed", "true")
    until(page, lambda: pixels_of(page, "backward") > 1000)
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    page.wait_for_url("**hide=backward*")
    until(page, lambda: pixels_of(page, "backward") == 0)
    assert pixels_of(page, "forward") > 1000
    page.go_back()
    expect(button).to_have_attribute("aria-pressed", "true")


def test_events_are_drawn_as_long_as_they_are(tab: Tab) -> None:
    page = at_step_1(tab)
    forward = until(page, lambda: pixels_of(page, "forward"))
    backward = pixels_of(page, "backward")
    assert backward / forward == pytest.approx(40 / 20, rel=0.08)  # labels cost some pixels


def test_colours_follow_the_theme(tab: Tab) -> None:
    page = at_step_1(tab)
    page.click("#shell-theme")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    until(page, lambda: pixels_of(page, "backward") > 1000)


def test_the_canvas_is_as_sharp_as_the_screen(browser: Browser, address: str) -> None:
    size = {"width": 1000, "height": 700}
    with watched_tab(browser, address, viewport=size, device_scale_factor=2) as sharp:
        page = sharp.open_timeline()
        canvas = page.locator("[data-part=frame] > canvas")
        box = canvas.bounding_box()
        assert box is not None
        assert canvas.evaluate("c => [c.width, c.height]") == [2 * box["width"], 2 * box["height"]]
        page.set_viewport_size({"width": 800, "height": 700})
        page.wait_for_function(
            "wide => document.querySelector('[data-part=frame] > canvas').width < wide",
            arg=2 * box["width"],
        )


def test_help_names_the_keys_and_the_frame_has_a_name(tab: Tab) -> None:
    page = at_step_1(tab)
    expect(page.get_by_role("application", name="Timeline of toy")).to_be_visible()
    page.keyboard.press("?")
    help_box = page.locator("[data-part=help-box]")
    expect(help_box).to_be_visible()
    expect(help_box).to_contain_text("previous, next step")
    page.keyboard.press("Escape")
    expect(help_box).to_be_hidden()


def test_the_minimap_moves_the_window(tab: Tab) -> None:
    page = at_step_1(tab)
    box = page.locator(".timeline-minimap").bounding_box()
    assert box is not None
    wide = box["width"] - GUTTER
    page.mouse.click(box["x"] + GUTTER + wide * 3.5 / STEPS, box["y"] + box["height"] / 2)
    page.wait_for_url(lambda url: f"t0={STEP}&" not in url)
    start, end = window(page)
    assert end - start == STEP
    assert (start + end) / 2 == pytest.approx(3.5 * STEP, abs=0.02 * STEP)
