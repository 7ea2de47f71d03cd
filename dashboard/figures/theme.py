"""The look of Rankscope: one colour per kind and category, the same on every page and canvas.

The hues are those of Okabe and Ito, which people with any common form of colour blindness can
tell apart (https://jfly.uni-koeln.de/color/). They are grouped by meaning: blue is work, green
the optimizer, warm colours are communication, grey is nothing. `css()` hands the same table to
the page and to the timeline's canvas, `template()` to plotly.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import plotly.graph_objects as go

Theme = Literal["light", "dark"]
THEMES: Final[tuple[Theme, ...]] = ("light", "dark")


class Colour(NamedTuple):
    """One colour, as it is on a light and on a dark surface."""

    light: str
    dark: str

    def on(self, theme: Theme) -> str:
        """The hex value for that theme."""
        return self.light if theme == "light" else self.dark


KINDS: Final[dict[str, Colour]] = {
    "forward": Colour("#56b4e9", "#62b8ea"),
    "backward": Colour("#0072b2", "#2583c4"),
    "backward_input": Colour("#0072b2", "#2583c4"),
    "backward_weight": Colour("#1f4e79", "#5c79c9"),
    "optimizer": Colour("#009e73", "#18a981"),
    "collective": Colour("#e69f00", "#e8a91d"),
    "send": Colour("#d55e00", "#e0701a"),
    "recv": Colour("#b5460f", "#c2571f"),
    "wait": Colour("#f4dcc8", "#4f3d31"),
    "kernel": Colour("#7a9cc6", "#86a8d2"),
    "module": Colour("#b4c7dc", "#53687f"),
    "data": Colour("#d6c700", "#f0e442"),
    "user": Colour("#cc79a7", "#d48bb4"),
    "marker": Colour("#5b6573", "#aab4c2"),
    "step": Colour("#9aa4b2", "#6b7686"),
}
"""By event kind, in the order of legends."""

CATEGORIES: Final[dict[str, Colour]] = {
    "compute": Colour("#0072b2", "#2583c4"),
    "optimizer": KINDS["optimizer"],
    "comm:tp": KINDS["collective"],
    "comm:pp": KINDS["send"],
    "comm:dp": Colour("#cc79a7", "#d48bb4"),
    "comm:other": Colour("#a6761d", "#b98a35"),
    "data": KINDS["data"],
    "host": Colour("#8a7fb5", "#968bc2"),
    "idle": Colour("#d5dae1", "#3a4350"),
}
"""By accounting category."""

CATEGORY_LABELS: Final[dict[str, str]] = {
    "compute": "compute",
    "optimizer": "optimizer",
    "comm:tp": "tensor-parallel communication",
    "comm:pp": "pipeline communication",
    "comm:dp": "data-parallel communication",
    "comm:other": "other communication",
    "data": "data loading",
    "host": "host-bound",
    "idle": "idle",
}

BUBBLES: Final[dict[str, Colour]] = {
    "warm_up": Colour("#b9c3d0", "#566273"),
    "stall": Colour("#d55e00", "#e0701a"),
    "cool_down": Colour("#8794a6", "#8491a3"),
}
"""By part of a pipeline bubble."""

RUNS: Final[tuple[Colour, Colour]] = (Colour("#8794a6", "#8491a3"), Colour("#1b222c", "#e4e9f0"))
"""The first and the second run of a comparison: no colour that means a kind of work."""

BETTER: Final = Colour("#009e73", "#18a981")
WORSE: Final = Colour("#d55e00", "#e0701a")
REFERENCE: Final = Colour("#3d4756", "#c3ccd8")
"""Lines of theory, plan and peaks: what the measured values are held against."""

SURFACES: Final[dict[str, Colour]] = {
    "page": Colour("#f5f6f8", "#11151b"),
    "card": Colour("#ffffff", "#181d25"),
    "raised": Colour("#eef0f4", "#222935"),
    "border": Colour("#dde1e8", "#2c3542"),
    "text": Colour("#1b222c", "#e4e9f0"),
    "muted": Colour("#5c6776", "#98a4b3"),
    "grid": Colour("#e6e9ee", "#2a323e"),
    "accent": Colour("#0b63b0", "#69b3f0"),
    "warning": Colour("#8a5300", "#f0b95a"),
    "warning-back": Colour("#fff4dc", "#33291a"),
    "on-light-box": Colour("#0d2233", "#0d1a26"),
    "on-dark-box": Colour("#ffffff", "#ffffff"),
}
"""What is not data: backgrounds, text, lines."""

TITLE_PX: Final = 60
"""Height that the title takes with the legend under it, in a notebook; pages have none."""
FONT: Final = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Roboto, sans-serif'
MONO: Final = 'ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace'


def css() -> str:
    """The palette as CSS variables: `--kind-forward`, `--category-comm-tp`, `--text`, …"""
    rules = [f':root[data-theme="{theme}"] {{\n{_variables(theme)}\n}}' for theme in THEMES]
    fonts = f":root {{\n  --font: {FONT};\n  --mono: {MONO};\n}}"
    return "\n".join([fonts, *rules]) + "\n"


def template(theme: Theme) -> go.layout.Template:
    """The plotly template of every figure: `figure.update_layout(template=template(theme))`."""
    text, muted, grid = (SURFACES[name].on(theme) for name in ("text", "muted", "grid"))
    axis: dict[str, Any] = {
        "gridcolor": grid,
        "zerolinecolor": grid,
        "linecolor": SURFACES["border"].on(theme),
        "tickfont": {"color": muted, "size": 12},
        "title": {"font": {"color": muted, "size": 12}, "standoff": 10},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": text},
            "title": {
                "font": {"size": 14},
                **{"x": 0, "xanchor": "left", "y": 1, "yanchor": "top"},
                "pad": {"t": 10, "l": 8},
            },
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": [KINDS[name].on(theme) for name in ("backward", "collective", "optimizer")],
            "colorscale": {
                "sequential": [[0, SURFACES["raised"].on(theme)], [1, KINDS["backward"].on(theme)]]
            },
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"font": {"color": muted, "size": 12}, "title": {"text": ""}},
            "hoverlabel": {
                "bgcolor": SURFACES["card"].on(theme),
                "bordercolor": SURFACES["border"].on(theme),
                "font": {"family": FONT, "size": 12, "color": text},
            },
            "margin": {"l": 8, "r": 8, "t": TITLE_PX, "b": 8},
        }
    )


def _variables(theme: Theme) -> str:
    tables = (("kind-", KINDS), ("category-", CATEGORIES), ("bubble-", BUBBLES), ("", SURFACES))
    lines = [
        f"  --{prefix}{name.replace(':', '-').replace('_', '-')}: {colour.on(theme)};"
        for prefix, table in tables
        for name, colour in table.items()
    ]
    return "\n".join([f"  color-scheme: {theme};", *lines])
