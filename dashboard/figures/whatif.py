"""The figure of What-if: what each scenario would save."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboard.analysis.replay.whatif import WhatIf
from dashboard.figures.base import empty, figure, rows_height
from dashboard.figures.theme import KINDS, SURFACES, Theme
from dashboard.figures.units import percent_text, time_unit


def savings(found: WhatIf, theme: Theme = "light") -> go.Figure:
    """A bar per scenario: time saved per step, with the 95 % interval over the steps."""
    title = "What each scenario saves"
    if not found.predictions:
        return empty(title, "No step is complete on every rank.", theme)
    shown = found.predictions[::-1]  # plotly draws the first at the bottom
    saved = [prediction.saved_ns for prediction in shown]
    unit = time_unit(map(abs, saved))
    whole = found.measured_ns
    made = figure(title, theme, height=rows_height(len(shown)), showlegend=False)
    made.add_bar(
        orientation="h",
        y=[prediction.scenario for prediction in shown],
        x=unit.of(saved),
        error_x={
            "type": "data",
            "symmetric": False,
            "array": unit.of((p.high_ns or p.saved_ns) - p.saved_ns for p in shown),
            "arrayminus": unit.of(p.saved_ns - (p.low_ns or p.saved_ns) for p in shown),
            "color": SURFACES["text"].on(theme),
            "thickness": 1.5,
        },
        customdata=[
            [percent_text(p.saved_ns / whole if whole else None), *unit.of([p.step_ns])]
            for p in shown
        ],
        marker={"color": KINDS["backward"].on(theme)},
        hovertemplate=(
            f"<b>%{{y}}</b><br>saves %{{x:,.2f}} {unit.label} per step, %{{customdata[0]}}"
            f"<br>step %{{customdata[1]:,.2f}} {unit.label}<extra></extra>"
        ),
    )
    made.update_xaxes(title_text=f"saved, {unit.label} per step (mean, 95 % interval)")
    if not any(saved):
        made.update_xaxes(range=[0, 1])
    made.update_yaxes(automargin=True)
    return made
