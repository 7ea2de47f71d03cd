"""The figure of layouts: the best that each split of the ranks can do."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboard.analysis.layouts.layouts import Layouts
from dashboard.figures.matrix import matrix
from dashboard.figures.theme import KINDS, Theme
from dashboard.figures.units import time_unit


def layout_map(found: Layouts, theme: Theme = "light") -> go.Figure:
    """Pipeline ranks (rows) against tensor ranks (columns): the least time per microbatch over
    what is left to choose (data ranks, microbatches, schedule).
    """
    best: dict[tuple[int, int], float] = {}
    for prediction in (found.recorded, *found.predictions):
        cell = prediction.layout.p, prediction.layout.t
        best[cell] = min(best.get(cell, prediction.sample_ns), prediction.sample_ns)
    unit = time_unit(best.values())
    return matrix(
        "Time per microbatch of each split",
        sorted({p for p, _ in best}),
        sorted({t for _, t in best}),
        {cell: unit.of([ns])[0] for cell, ns in best.items()},
        axes=("pipeline ranks", "tensor ranks"),
        value=f"{unit.label} per microbatch",
        colours=(KINDS["forward"], KINDS["forward"]),
        theme=theme,
    )
