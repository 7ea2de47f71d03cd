"""What all figures share: the template, the empty figure, axes and reference lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log10
from typing import Any, Final

import plotly.graph_objects as go

from dashboard.figures.theme import REFERENCE, SURFACES, Theme, template

ROW_PX: Final = 34
"""Height of one horizontal bar with its gap."""

MOST_ROWS_PX: Final = 560
"""All bars together: with many ranks they get thinner instead of filling several screens."""

FRAME_PX: Final = 96
"""Height that axes, legend and margins take from a figure."""

EMPTY_PX: Final = 160
HALF_PX: Final = 300
"""Height of figures that stand beside each other, so that they end at one line."""

MATRIX_PX: Final = 250
"""Least height of a matrix, and of what stands beside one."""

_MOST_STEP_TICKS: Final = 12
_MOST_STEPS_APART: Final = 80
"""Steps that have some pixels each in half a page; markers and gaps of more would touch."""
_WIDE: Final = 100
"""Largest over smallest value from which on a log axis has ticks at the powers of ten only."""
_NARROW: Final = 5
"""Below that, an axis with 1, 2 and 5 might show none of them."""
LABEL_GAP_PX: Final = 6


def figure(title: str, theme: Theme, **layout: Any) -> go.Figure:
    """A figure in the look of the dashboard; `title` is for notebooks, pages have their own.

    It has the background of the cards, so that it looks the same when it is saved.
    """
    made = go.Figure()
    made.update_layout(template=template(theme), title={"text": title}, hovermode="closest")
    made.update_layout(paper_bgcolor=SURFACES["card"].on(theme))
    made.update_layout(**layout)
    made.update_yaxes(ticklabelstandoff=LABEL_GAP_PX)
    return made


def empty(title: str, why: str, theme: Theme) -> go.Figure:
    """A figure that says why there is nothing to draw."""
    made = figure(title, theme, height=EMPTY_PX)
    hidden = {"visible": False}
    made.update_layout(xaxis=hidden, yaxis=hidden)
    made.add_annotation(
        text=why,
        showarrow=False,
        font={"color": SURFACES["muted"].on(theme)},
        xref="paper",
        yref="paper",
        x=0.5,
        y=0.5,
    )
    return made


def rows_height(rows: int, most_px: int = MOST_ROWS_PX) -> int:
    """The height of a figure with that many horizontal bars; all of them take up to `most_px`."""
    return FRAME_PX + min(ROW_PX * max(rows, 2), most_px)


def bars_axis(made: go.Figure, bars: int, room: int = 0) -> None:
    """Horizontal bars from top to bottom; few of them leave room for `room`, to stay slim."""
    made.update_yaxes(range=[max(bars, room) - 0.5, -0.5], showgrid=False)


def legend_above(**more: Any) -> dict[str, Any]:
    """A legend in one line above the plot."""
    above = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom"}
    return above | more


def reference_line(
    made: go.Figure,
    y: float,
    label: str,
    theme: Theme,
    *,
    log: bool = False,
    place: tuple[str, str] = ("right", "above"),
) -> None:
    """A horizontal line that the measured values are held against, with its name at `place`.

    `log`: the axis is logarithmic, where plotly wants the exponent of a note but not of a line.
    """
    colour = REFERENCE.on(theme)
    across = {"xref": "paper", "x0": 0, "x1": 1}
    line = {"color": colour, "width": 1.5, "dash": "dot"}
    made.add_shape(type="line", y0=y, y1=y, line=line, **across)
    made.add_annotation(
        text=label,
        font={"color": colour, "size": 11},
        showarrow=False,
        xref="paper",
        x=1 if place[0] == "right" else 0,
        xanchor=place[0],
        y=log10(y) if log else y,
        yanchor="bottom" if place[1] == "above" else "top",
    )


def steps_axis(made: go.Figure, steps: Sequence[int]) -> None:
    """Steps from left to right, with ticks at whole numbers only."""
    span = max(steps) - min(steps)
    nice = (digit * 10**power for power in range(10) for digit in (1, 2, 5))
    dtick = next(size for size in nice if span / size <= _MOST_STEP_TICKS)
    made.update_xaxes(
        title_text="step", tickformat="d", dtick=dtick, tick0=0, showgrid=False, zeroline=False
    )


def log_ticks(values: Iterable[float | None]) -> float | str:
    """Ticks of a log axis: factors of ten, 1, 2 and 5 where there are few tens, else all digits."""
    known = [value for value in values if value]
    if not known or max(known) >= _WIDE * min(known):
        return 1.0
    return "D2" if max(known) >= _NARROW * min(known) else "D1"


def few_steps(steps: Sequence[int]) -> bool:
    """Whether there is room to mark every single step."""
    return len(steps) <= _MOST_STEPS_APART


def line_mode(steps: Sequence[int]) -> str:
    """How a line over these steps is drawn: with markers where they stay apart."""
    return "lines+markers" if few_steps(steps) else "lines"


def scale(low: str, high: str) -> list[list[Any]]:
    """A colour scale from nothing (`low`) to most (`high`)."""
    return [[0, low], [1, high]]


def rank_names(ranks: list[int], stages: list[str] | None = None) -> list[str]:
    """`rank 2`, or `rank 2 · stage 1` where the stages are known."""
    if stages is None:
        return [f"rank {rank}" for rank in ranks]
    return [
        f"rank {rank} · stage {stage}" if stage else f"rank {rank}"
        for rank, stage in zip(ranks, stages, strict=True)
    ]
