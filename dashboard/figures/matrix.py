"""A heat map of ranks against ranks or names, with the values in the cells where there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import plotly.graph_objects as go

from dashboard.figures.base import MATRIX_PX, figure, scale
from dashboard.figures.theme import SURFACES, Colour, Theme

_Column = TypeVar("_Column", int, str)
_MOST_WITH_TEXT: Final = 12
_CELL_PX: Final = 44
_MOST_PX: Final = 480
_BAR: Final = {"tickfont": {"size": 11}, "thickness": 10, "outlinewidth": 0}


def matrix(
    title: str,
    rows: Sequence[int],
    columns: Sequence[_Column],
    cells: Mapping[tuple[int, _Column], float | None],
    *,
    axes: tuple[str, str],
    value: str,
    colours: tuple[Colour, Colour],
    theme: Theme,
    each_column: bool = False,
) -> go.Figure:
    """Ranks `rows` against `columns` (ranks, or names); what is not in `cells` is left blank.

    `axes` names the rows and the columns, `value` is the unit of the cells. each_column: colours
    compare the cells of a column, and not columns that differ a hundredfold.
    """
    written = max(len(rows), len(columns)) <= _MOST_WITH_TEXT
    made = figure(title, theme, height=min(max(_CELL_PX * len(rows) + 70, MATRIX_PX), _MOST_PX))
    for part in [{column} for column in columns] if each_column else [{*columns}]:
        # All columns in each trace: of one cell per row, plotly does not know where it stands.
        z = [[cells.get((row, c)) if c in part else None for c in columns] for row in rows]
        most = max((v for line in z for v in line if v is not None), default=0.0) or 1.0
        made.add_heatmap(
            x=[str(column) for column in columns],
            y=[str(row) for row in rows],
            z=z,
            zmin=0,
            zmax=most,
            colorscale=scale(SURFACES["raised"].on(theme), colours[1].on(theme)),
            showscale=not written and columns[-1] in part,
            colorbar=_BAR | (_shares_of(most) if each_column else {}),
            texttemplate="%{z:.3~g}" if written else None,
            textfont={"size": 12},
            xgap=2,
            ygap=2,
            hoverongaps=False,
            hovertemplate=(
                f"{axes[0]} %{{y}}<br>{axes[1]} %{{x}}<br>"
                f"<b>%{{z:,.3~g}} {value}</b><extra></extra>"
            ),
        )
    made.update_xaxes(title_text=f"{axes[1]}  ({value})", type="category", showgrid=False, ticks="")
    made.update_yaxes(
        title_text=axes[0], type="category", autorange="reversed", showgrid=False, ticks=""
    )
    return made


def _shares_of(most: float) -> dict[str, Any]:
    """The colour bar of columns that have a scale each: percent of the column's largest cell."""
    shares = range(0, 101, 25)
    return {
        "tickvals": [share / 100 * most for share in shares],
        "ticktext": [f"{share}%" for share in shares],
    }
