"""Figures of collectives by rank: what each took part in, and how fast it saw them end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import plotly.graph_objects as go
import pyarrow as pa

from dashboard.figures.base import empty
from dashboard.figures.matrix import matrix
from dashboard.figures.theme import CATEGORIES, Theme
from dashboard.figures.units import Unit, byte_unit, rate_unit

_NOTHING: Final = "No complete collective with a payload in these steps."
_UnitOf: TypeAlias = Callable[[Iterable[float | None]], Unit]
_AXES: Final = ("rank", "dimension and operation")


def collective_bytes(totals: pa.Table, theme: Theme = "light") -> go.Figure:
    """Bytes of each rank (rows) by dimension and operation (columns) of `collective_totals`."""
    return _by_rank("Bytes of collectives", totals, "bytes", byte_unit, theme)


def collective_rates(totals: pa.Table, theme: Theme = "light") -> go.Figure:
    """Skew-free bus bandwidth of each rank (rows) by dimension and operation (columns)."""
    return _by_rank("Bandwidth of collectives", totals, "gbps", rate_unit, theme)


def _by_rank(title: str, totals: pa.Table, value: str, unit_of: _UnitOf, theme: Theme) -> go.Figure:
    rows = totals.to_pylist()
    if not rows:
        return empty(title, _NOTHING, theme)
    unit = unit_of(row[value] for row in rows)
    cells = {
        (row["rank"], f"{row['dim']} {row['op']}"): None
        if row[value] is None
        else row[value] / unit.size
        for row in rows
    }
    ranks = sorted({row["rank"] for row in rows})
    columns = list(dict.fromkeys(f"{row['dim']} {row['op']}" for row in rows))
    colours = CATEGORIES["idle"], CATEGORIES["comm:tp"]
    return matrix(
        title,
        ranks,
        columns,
        cells,
        axes=_AXES,
        value=unit.label,
        colours=colours,
        theme=theme,
        each_column=True,
    )
