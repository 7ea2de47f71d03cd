"""Compare: what changed from one run to another, by category, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dash import html

from dashboard.figures.compare import differences, waterfall
from dashboard.pages.markup import card, data_table, graph, view_select

if TYPE_CHECKING:
    from dashboard.analysis.compare import Comparison
    from dashboard.pages.state import ViewState
    from dashboard.runs import Run

TITLE: Final = "Compare"
PATH: Final = "/compare"

_COLUMNS: Final = ("category", "A", "B", "B - A", "95 % interval", "significant")


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run (A) and the second one (B)."""
    if len(runs) < 2:
        return html.Div(
            "Start the dashboard with two runs to compare them: rankscope dashboard A B",
            className="card empty",
        )
    other = state.other if state.other is not None else (0 if state.run else 1)
    comparison = runs[state.run].compare(runs[other])
    return html.Div(
        [
            card(
                f"{comparison.a} → {comparison.b}",
                "ms per step, mean over matched ranks and steps; A is the run chosen above.",
                view_select(
                    "B",
                    "compare-other",
                    "vs",
                    [(str(number), run.name) for number, run in enumerate(runs)],
                    str(other),
                ),
                graph("compare-waterfall", waterfall(comparison, state.theme)),
            ),
            card(
                "Difference by category",
                "B minus A; the whiskers are bootstrap 95 % intervals.",
                graph("compare-differences", differences(comparison, state.theme)),
            ),
            card("In numbers", "ms per step", data_table("compare", _COLUMNS, _rows(comparison))),
            card(
                "What was compared",
                "",
                html.Ul([html.Li(note) for note in comparison.notes]),
            ),
        ],
        className="page-stack",
    )


def _rows(comparison: Comparison) -> list[list[str]]:
    return [
        [
            row["category"],
            _ms(row["a_ms"]),
            _ms(row["b_ms"]),
            _ms(row["delta_ms"], "+"),
            "–" if row["low_ms"] is None else f"{row['low_ms']:+.3f} … {row['high_ms']:+.3f}",
            "yes" if comparison.significant(row["category"]) else "no",
        ]
        for row in comparison.categories.to_pylist()
    ]


def _ms(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign},.3f}"
