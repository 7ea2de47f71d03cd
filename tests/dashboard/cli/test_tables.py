"""Tables in the terminal lose no digit, and Rich does not look through numbers for their width."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from dashboard.cli.tables import plain_console, show, table, width_of

ROWS = [["all_reduce of tp", "12,345.67", "–"], ["send", "1.00", "日本語"]]


def shown(width: int) -> list[str]:
    out = io.StringIO()
    made = table("T", ["op", "a\nms", "who"], ROWS)
    show(plain_console(file=out, width=width), made)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_by_hand() -> None:
    """Columns of 16, 9 and 6 cells (wide characters take two), 3 between, 2 at either side."""
    assert width_of(table("T", ["op", "a\nms", "who"], ROWS)) == 16 + 9 + 6 + 2 * 3 + 2 * 1 + 2
    assert [line for line in shown(100) if line and "─" not in line] == [
        "T",
        "                             a",
        "  op                        ms      who",
        "  all_reduce of tp   12,345.67        –",
        "  send                    1.00   日本語",
    ]


def test_numbers_stay_whole_where_the_line_is_too_short() -> None:
    narrow = "\n".join(shown(20))
    assert "12,345.67" in narrow
    assert "日本語" in narrow
    assert "all_reduce of" not in narrow, "words are wrapped"


def test_cells_of_numbers_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    measure = Text.__rich_measure__

    def noted(text: Text, *how: object) -> object:
        measured.append(str(text))
        return measure(text, *how)  # type: ignore[arg-type]

    made = table("T", ["op", "ms"], [["send", "1.00"], ["recv", "2.00"]])
    monkeypatch.setattr(Text, "__rich_measure__", noted)
    assert width_of(made) > 0
    assert "send" in measured
    assert not {"1.00", "2.00"} & set(measured)
