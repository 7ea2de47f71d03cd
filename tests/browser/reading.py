"""What a page shows, read back from the browser."""

from __future__ import annotations

import csv
from typing import Any

from playwright.sync_api import Page, expect


def wait_until_drawn(page: Page) -> None:
    """Until every figure is drawn, fitted into its box and bound to the page.

    Dash marks a figure as pending until all of this is done. A figure has a button to save it,
    which is there before.
    """
    page.wait_for_function(
        """() => {
          const drawn = ".js-plotly-plot:not(.dash-graph--pending) .main-svg";
          return [...document.querySelectorAll("button[data-save=svg]")].every(
            ({ dataset }) => document.querySelector(`#${dataset.graph} ${drawn}`),
          );
        }"""
    )
    expect(page.locator("#shell-page[data-dash-is-loading=true]")).to_have_count(0)


def traces(page: Page, figure: str) -> dict[str, dict[str, Any]]:
    """The traces that plotly has drawn in the figure with that id, by name."""
    plot = page.locator(f"#{figure} .js-plotly-plot")
    expect(plot.locator(".main-svg").first).to_be_visible()
    found: list[dict[str, Any]] = plot.evaluate(
        "plot => plot._fullData.map(({ name, x, y, z, base, text }) =>"
        " JSON.parse(JSON.stringify({ name, x, y, z, base, text })))"
    )
    return {trace["name"]: trace for trace in found}


def table(page: Page) -> list[list[str]]:
    """The rows of the page's table, without its head; no-break spaces as plain ones."""
    expect(page.locator(".data-table tbody tr").first).to_be_visible()
    cells: list[list[str]] = page.locator(".data-table tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in cells]


def saved_table(page: Page, name: str = "") -> list[dict[str, str]]:
    """The rows of the CSV file of that table, by column; of the page's first by default."""
    with page.expect_download() as download:
        page.locator(f'a[data-table="{name}"]' if name else "a[data-table]").first.click()
    with download.value.path().open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
