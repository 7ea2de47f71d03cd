"""Names from files are shown as they are, also where Rich would see markup or a picture in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from dashboard.cli.progress import Advance, bytes_progress, count_progress
from dashboard.cli.tables import console, show, table

NAME = "[red]x[/red] :rocket: [/]"
"""The last part is a closing tag of nothing, at which Rich's parser raises."""


@pytest.mark.parametrize("progress", [bytes_progress, count_progress])
def test_on_a_progress_bar(
    progress: Callable[[str, int | None], AbstractContextManager[Advance]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich takes standard error for a terminal then
    monkeypatch.setenv("COLUMNS", "200")
    with progress(f"Reading {NAME}", 1) as advance:
        advance(1)
    assert f"Reading {NAME} " in capsys.readouterr().err


def test_in_titles_columns_and_cells_of_tables(capsys: pytest.CaptureFixture[str]) -> None:
    show(console(), table(f"title {NAME}", [f"words {NAME}", f"number {NAME}"], [[NAME, NAME]]))
    shown = capsys.readouterr().out
    assert [shown.count(f"{part}{NAME}") for part in ("title ", "words ", "number ", "")] == [
        1, 1, 1, 5,
    ]  # fmt: skip
