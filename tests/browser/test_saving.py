"""Figures are saved as pictures and tables as CSV, named after the run; both work offline."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page

from dashboard import open_run
from tests.browser.conftest import Tab
from tests.browser.reading import traces
from tests.browser.timeline_page import at_step_1, picture, pixels_of, until

pytestmark = pytest.mark.browser

SAMPLE = "pp4-1f1b-slow-stage"


def saved(page: Page, what: Locator) -> tuple[str, bytes]:
    """Name and content of the file that a click saves."""
    with page.expect_download() as download:
        what.click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def pixels(png: bytes) -> tuple[tuple[int, int], bytes]:
    """Size and content of a picture."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return picture.size, picture.tobytes()


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_figure_is_saved_with_its_title_run_and_steps(tab: Tab, kind: str) -> None:
    page = tab.open("/overview?steps=1-2")
    traces(page, "overview-steps")
    button = page.locator(f"button[data-graph=overview-steps][data-save={kind}]")
    name, content = saved(page, button)
    assert name == f"toy-overview-steps.{kind}"
    assert content.startswith(b"<svg" if kind == "svg" else b"\x89PNG")
    if kind == "svg":
        text = content.decode()
        assert "Step time over the run" in text
        assert "toy · steps 1-2" in text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_timeline_is_saved_as_it_is_shown(tab: Tab) -> None:
    page = at_step_1(tab)
    until(page, lambda: pixels_of(page, "forward"))
    button = page.get_by_role("button", name="Save what is shown")
    button.hover()  # the line under the pointer is gone
    shown = until(page, lambda: picture(page))
    name, content = saved(page, button)
    assert name == "toy-timeline.png"
    expected = base64.b64decode(shown.removeprefix("data:image/png;base64,"))
    assert pixels(content) == pixels(expected)


def test_a_table_is_saved_with_all_digits_under_the_names_of_its_runs(
    tab: Tab, sample_runs: list[Path]
) -> None:
    path = next(path for path in sample_runs if path.name == SAMPLE)
    number = sample_runs.index(path) + 1
    page = tab.open(f"/overview?run={number}")
    name, content = saved(page, page.locator("a[data-table=overview-critical-path]"))
    assert name == f"{SAMPLE}-overview-critical-path.csv"
    rows = list(csv.DictReader(content.decode().splitlines()))
    expected = open_run(path).critical_path().summary.to_pylist()
    assert [float(row["ns_per_step"]) for row in rows] == [row["ns_per_step"] for row in expected]

    page = tab.open(f"/stragglers?run={number}")
    name, content = saved(page, page.locator("a[data-table=stragglers]"))
    assert name == f"{SAMPLE}-stragglers.csv"
    (row,) = csv.DictReader(content.decode().splitlines())
    assert (row["cause"], row["stage"], row["rank"]) == ("slow stage", "2", "2")

    page = tab.open(f"/compare?run={number}&vs=0")
    name, _ = saved(page, page.locator("a[data-table=compare-operations]"))
    assert name == f"{SAMPLE}-vs-toy-compare-operations.csv"
