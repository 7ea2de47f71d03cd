"""Compare: what changed from one run to another, by category, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from dash import html

from dashboard.analysis.comparing.compare import STEP_TIME
from dashboard.analysis.comparing.trend import trend
from dashboard.analysis.run_names import distinct_names
from dashboard.figures.compare import differences, mean_steps, step_times, trend_of, waterfall
from dashboard.figures.theme import CATEGORIES, CATEGORY_LABELS
from dashboard.figures.units import NO_BREAK
from dashboard.pages.compare_step import one_step
from dashboard.pages.markup import (
    card,
    empty_page,
    figure_card,
    table_card,
    tile,
    view_link,
    view_select,
)

if TYPE_CHECKING:
    from dashboard.analysis.comparing.compare import Comparison
    from dashboard.analysis.comparing.trend import Trend
    from dashboard.pages.state import ViewState
    from dashboard.run import Run

TITLE: Final = "Compare"
PATH: Final = "/compare"

_FEWEST_FOR_A_TREND: Final = 3
_OPERATIONS_SHOWN: Final = 12
_OPERATION_COLUMNS: Final = (
    "operation",
    "stage",
    "A, ms",
    "B, ms",
    "B − A, ms",
    "95 % interval, ms",
    "",
)
_TREND_COLUMNS: Final = (
    "run",
    "steps",
    "step, ms",
    "95 % interval, ms",
    "to the first, ms",
    "95 % interval, ms",
    "mostly",
    "",
)
_COLUMNS: Final = ("category", "A, ms", "B, ms", "B − A, ms", "95 % interval, ms", "")


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run (A) and the second one (B)."""
    if len(runs) < 2:
        return _one_run_only()
    other = _other(state)
    a, b = runs[state.run], runs[other]
    comparison = a.compare(b, _chosen(a, b, state))
    without = [
        run for run, steps in ((a, comparison.steps_a), (b, comparison.steps_b)) if not steps
    ]
    if without:
        return _nothing_to_compare(runs, state, other, without[0])
    accountings = a.accounting(comparison.steps_a), b.accounting(comparison.steps_b)
    theme = state.theme
    return html.Div(
        [
            _choice(runs, state, other),
            html.Div(_tiles(comparison), className="tiles"),
            *_trend(runs, state),
            figure_card(
                "compare-differences",
                "What changed, by category",
                "B − A per step. Whiskers are bootstrap 95 % intervals; a faint bar is within "
                "chance, all bars taken together, or small. The categories add up to the step "
                "time.",
                differences(comparison, theme),
            ),
            figure_card(
                "compare-waterfall",
                "From A's step time to B's",
                "Each category takes up where the one before ends. Whiskers are bootstrap 95 % "
                "intervals of the single differences, the last one of the whole.",
                waterfall(comparison, theme),
            ),
            html.Div(
                [
                    figure_card(
                        "compare-runs",
                        "The mean step of each",
                        "Mean over matched ranks and steps.",
                        mean_steps(comparison, theme),
                    ),
                    figure_card(
                        "compare-steps",
                        "Step time over the steps",
                        "Median over the ranks; the steps that were compared.",
                        step_times(*accountings, (comparison.a, comparison.b), theme),
                    ),
                ],
                className="grid-2",
            ),
            *one_step(runs, state, other, (comparison.steps_a, comparison.steps_b)),
            _table(comparison, state),
            _operations(comparison),
            card(
                "What was compared",
                "",
                html.Ul(
                    [html.Li(str(said)) for said in (*comparison.notes, *comparison.differences)],
                    className="notes",
                ),
            ),
        ],
        className="page-stack",
    )


def _chosen(a: Run, b: Run, state: ViewState) -> set[int] | None:
    return None if state.steps is None else {*state.chosen(a.steps), *state.chosen(b.steps)}


def _trend(runs: Sequence[Run], state: ViewState) -> list[Any]:
    """All open runs, where there are more than the two."""
    if len(runs) < _FEWEST_FOR_A_TREND:
        return []
    steps = None
    if state.steps is not None:
        steps = {step for run in runs for step in state.chosen(run.steps)}
    found = trend(runs, steps)
    return [
        figure_card(
            "compare-trend",
            "Step time, run by run",
            "All open runs, in the order in which they were named. Whiskers are bootstrap 95 % "
            "intervals of each mean; a diamond differs from the first run beyond chance.",
            trend_of(found, state.theme),
        ),
        table_card(
            "compare-all",
            "All open runs",
            "Per step, against the first run. The mark is for what is beyond chance and 2 % or "
            "more of the step, all rows taken together.",
            _TREND_COLUMNS,
            [*_trend_rows(found, runs, state)],
            saved=found.table.to_pylist(),
        ),
    ]


def _trend_rows(found: Trend, runs: Sequence[Run], state: ViewState) -> Iterator[list[Any]]:
    """A row per run; its name makes it B, beside the first one as A."""
    mostly = [None, *(comparison.largest() for comparison in found.comparisons)]
    for number, (row, category) in enumerate(zip(found.table.to_pylist(), mostly, strict=True)):
        first = number == 0
        view = replace(state, run=0, other=number, window=None, selection=None)
        known = row["step_ms"] is not None
        yield [
            row["run"] if first else view_link(row["run"], PATH, view, title="Compare it as B"),
            f"{row['steps']:,}",
            _ms(row["step_ms"]),
            _span(row["low_ms"], row["high_ms"]) if known else "–",
            "first run" if first else _ms(row["delta_ms"], sign="+"),
            "" if first else _span(row["delta_low_ms"], row["delta_high_ms"], "+"),
            CATEGORY_LABELS[category] if category else "–",
            "●" if row["significant"] else "",
        ]


def _other(state: ViewState) -> int:
    """The second run of the URL, else the first one that is not the first run."""
    if state.other is not None:
        return state.other
    return 0 if state.run else 1


def _choice(runs: Sequence[Run], state: ViewState, other: int) -> html.Section:
    options = [(str(number), name) for number, name in enumerate(distinct_names(runs))]
    swapped = replace(state, run=other, other=state.run, steps=None, window=None, selection=None)
    same = html.Span("A and B are the same run.", className="muted") if other == state.run else None
    return html.Section(
        [
            view_select("A", "compare-a", "run", options, str(state.run)),
            view_link("⇄", PATH, swapped, className="tool-button", title="Swap A and B"),
            view_select("B", "compare-b", "vs", options, str(other)),
            same,
        ],
        className="card choosers",
    )


def _tiles(comparison: Comparison) -> list[Any]:
    rows = comparison.categories.to_pylist()
    total = rows[0]
    certain = "beyond chance" if comparison.significant() else "within chance"
    tiles = [
        tile("Step time, A", _ms(total["a_ms"], unit=True), comparison.a),
        tile("Step time, B", _ms(total["b_ms"], unit=True), comparison.b),
        tile(
            "B − A",
            _ms(total["delta_ms"], sign="+", unit=True),
            f"{_relative(comparison)}, {certain}: {_interval(total)}{NO_BREAK}ms",
        ),
    ]
    largest = comparison.largest()
    if largest is not None:
        label = CATEGORY_LABELS[largest]
        row = next(row for row in rows if row["category"] == largest)
        delta = _ms(row["delta_ms"], sign="+", unit=True)
        tiles.append(tile("Largest change", delta, f"{label}, {_interval(row)}{NO_BREAK}ms"))
    return tiles


def _relative(comparison: Comparison) -> str:
    share = comparison.relative()
    return "–" if share is None else f"{100 * share:+.1f}{NO_BREAK}%".replace("-", "−")


def _table(comparison: Comparison, state: ViewState) -> html.Section:
    rows = [
        row
        for row in comparison.categories.to_pylist()
        if row["a_ms"] or row["b_ms"] or row["category"] == STEP_TIME
    ]
    return table_card(
        "compare",
        "In numbers",
        "Per step; mean over matched ranks and steps. The mark is for what is beyond chance, "
        "all rows taken together.",
        _COLUMNS,
        [_row(row, comparison, state) for row in rows],
        saved=comparison.categories.to_pylist(),
    )


def _operations(comparison: Comparison) -> html.Section:
    rows = comparison.operations.to_pylist()
    return table_card(
        "compare-operations",
        "Operations that changed most",
        "Per step; mean over matched ranks and steps. All of them add up to the step time.",
        _OPERATION_COLUMNS,
        [_operation(row) for row in rows[:_OPERATIONS_SHOWN]],
        saved=rows,
    )


def _operation(row: dict[str, Any]) -> list[str]:
    parts = dict.fromkeys((CATEGORY_LABELS[row["category"]], row["kind"], row["name"]))
    stage = "–" if row["stage"] is None else str(row["stage"])
    return [" · ".join(filter(None, parts)), stage, *_numbers(row)]


def _numbers(row: dict[str, Any]) -> list[str]:
    return [
        _ms(row["a_ms"]),
        _ms(row["b_ms"]),
        _ms(row["delta_ms"], sign="+"),
        _interval(row),
        "●" if row["significant"] else "",
    ]


def _row(row: dict[str, Any], comparison: Comparison, state: ViewState) -> list[Any]:
    category = row["category"]
    name: Any = html.Strong(category)
    if category != STEP_TIME:
        colour = CATEGORIES[category].on(state.theme)
        swatch = html.Span(className="swatch", style={"background": colour})
        name = html.Span([swatch, CATEGORY_LABELS[category]], className="swatched")
    return [name, *_numbers(row)]


def _interval(row: dict[str, Any]) -> str:
    return _span(row["low_ms"], row["high_ms"], "+")


def _span(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return "interval unknown"
    return f"{_ms(low, sign=sign)}{NO_BREAK}…{NO_BREAK}{_ms(high, sign=sign)}"


def _ms(value: float | None, *, sign: str = "", unit: bool = False) -> str:
    if value is None:
        return "–"
    text = f"{value:{sign},.2f}".replace("-", "−")
    return text + NO_BREAK + "ms" if unit else text


def _one_run_only() -> html.Div:
    said = ["Start the dashboard with two runs: ", html.Code("rankscope dashboard A B")]
    return empty_page("One run is open", said)


def _nothing_to_compare(
    runs: Sequence[Run], state: ViewState, other: int, without: Run
) -> html.Div:
    """One of the runs has no step that could be compared: say which, and why."""
    if without.steps and state.steps is not None:
        said = f"None of the chosen steps; it has {without.steps[0]} to {without.steps[-1]}."
    else:
        said = "Choose other runs above, or look at it in the timeline: no step of it is complete."
    why = empty_page(f"{without.name} has no step to compare", said)
    return html.Div([_choice(runs, state, other), why], className="page-stack")
