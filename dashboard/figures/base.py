"""What every figure starts from."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.figures.theme import SURFACES, Theme, template


def empty_figure(theme: Theme, *, x: str, y: str, height: int = 300) -> go.Figure:
    """A figure with the house's template and titled axes; units belong into the titles."""
    figure = go.Figure()
    figure.update_layout(
        template=template(theme),
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "traceorder": "normal", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def say_empty(figure: go.Figure, theme: Theme, text: str) -> go.Figure:
    """Write into a figure that has nothing to show why that is so."""
    figure.add_annotation(
        text=text,
        showarrow=False,
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        font={"color": SURFACES["muted"].on(theme)},
    )
    return figure


def rank_matrix(
    figure: go.Figure,
    ranks: Sequence[int],
    values: list[list[float | None]],
    hover: str,
    unit: str,
    theme: Theme,
) -> None:
    """Fill `figure` with a matrix over ranks: one row per rank, None where there is nothing."""
    names = [str(rank) for rank in ranks]
    figure.add_heatmap(
        x=names,
        y=names,
        z=values,
        colorscale=template(theme).layout.colorscale.sequential,
        zmin=0,
        colorbar={"title": {"text": unit}, "thickness": 12},
        hovertemplate=hover + "<extra></extra>",
        texttemplate="%{z:.1f}" if len(ranks) <= 8 else None,
        xgap=2,
        ygap=2,
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_xaxes(showgrid=False, type="category")
