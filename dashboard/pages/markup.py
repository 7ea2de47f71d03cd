"""Small pieces of HTML that several pages use."""

from __future__ import annotations

from typing import Any

from dash import html


def dashed(**attributes: str) -> dict[str, Any]:
    """`dashed(aria_label="Pages")` → `{"aria-label": "Pages"}`: attributes with a dash."""
    return {name.replace("_", "-"): value for name, value in attributes.items()}


def notice(text: str) -> html.Div:
    """One sentence in the place of what cannot be shown."""
    return html.Div(text, className="notice", role="alert")
