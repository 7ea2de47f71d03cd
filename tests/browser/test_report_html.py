"""`rankscope report --html`: one file, drawn without a network, in both themes."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from click.testing import CliRunner
from playwright.sync_api import Browser

from dashboard.cli.command_line import rankscope
from tests.browser.conftest import SAMPLES, new_context
from tests.support.toy import Event, write_run
from tracer.errors import UsageError


def write(run: Path, page: Path, *more: str) -> str:
    result = CliRunner().invoke(rankscope, ["report", str(run), "--html", str(page), *more])
    assert result.exit_code == 0, result.output
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_draws_without_asking_for_anything(browser: Browser, tmp_path: Path, theme: str) -> None:
    page_file = tmp_path / "report.html"
    write(SAMPLES / "pp4-1f1b-slow-stage", page_file, "--step", "1:4")
    context = new_context(browser, offline=True, color_scheme=theme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda asked: complaints.append(asked.url) if asked.url != page_file.as_uri() else None,
    )
    page.goto(page_file.as_uri())
    headings = page.locator("h2").all_text_contents()
    assert headings[0] == "Report"
    assert "Where each rank's time goes" in headings
    assert "Who waited for whom" in headings
    assert "Schedule of step" in " ".join(headings)
    page.wait_for_function(
        "document.querySelectorAll('.js-plotly-plot .main-svg').length >= 2 * "
        "document.querySelectorAll('[id^=figure-]').length"
    )
    assert page.locator("html").get_attribute("data-theme") == theme
    page.get_by_role("button", name="Light or dark").click()
    assert page.locator("html").get_attribute("data-theme") != theme
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, "no horizontal scroll bar"
    found = Axe().run(page).response["violations"]
    assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []
    context.close()
    assert complaints == []


def test_names_of_a_run_are_text_and_no_markup(browser: Browser, tmp_path: Path) -> None:
    """A script in a name is neither run nor the end of the page's data."""
    evil = "</script><script>document.title = 'run'</script><!--"
    run = write_run(
        tmp_path / "run",
        {
            0: [
                Event(start=0, duration=100, kind="step", name="step", step=0),
                Event(start=10, duration=50, kind="user", name=evil, step=0),
            ]
        },
    )
    page_file = tmp_path / "report.html"
    write(run, page_file)
    context = new_context(browser, offline=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert page.title() == "run · Rankscope"
    context.close()


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    page_file = tmp_path / "no" / "a.html"
    with pytest.raises(UsageError, match="cannot be written"):
        CliRunner().invoke(
            rankscope,
            ["report", str(SAMPLES / "pp4-gpipe"), "--html", str(page_file)],
            catch_exceptions=False,
        )
    assert list(tmp_path.iterdir()) == []
