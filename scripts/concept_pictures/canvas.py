"""A small canvas for pictures of time: lanes, boxes on them, marks and words, as one SVG.

Colours are those of the dashboard, by name, and follow the reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape

from dashboard.figures.theme import (
    BUBBLES,
    CATEGORIES,
    FONT,
    KINDS,
    REFERENCE,
    SURFACES,
    THEMES,
    Colour,
    Theme,
)

WIDTH: Final = 860
LANE: Final = 26
_LEFT: Final = 78
_RIGHT: Final = 205
_TEXT: Final = 12
_LETTER: Final = 6.6
"""Width of a letter of `_TEXT` pixels, about."""

COLOURS: Final[dict[str, Colour]] = {
    **{name.replace(":", "-"): colour for name, colour in CATEGORIES.items()},
    **{name.replace("_", "-"): colour for name, colour in BUBBLES.items()},
    **{name: KINDS[name] for name in ("forward", "backward", "wait", "collective")},
    "line": REFERENCE,
    "path": SURFACES["text"],
}


@dataclass(kw_only=True)
class Canvas:
    """Lanes from top to bottom; `begin` to `end` is the time that the width shows."""

    title: str
    """For those who cannot see it, and the line above the picture."""
    begin: float = 0
    end: float
    parts: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    y: float = 40

    def lane(self, label: str, note: str = "") -> None:
        """Begin a lane, with a name on its left and a remark on its right."""
        middle = self.y + LANE / 2 + 4
        self._words(_LEFT - 10, middle, label, "muted", anchor="end")
        self._words(WIDTH - _RIGHT + 14, middle, note, "words")

    def box(
        self, start: float, end: float, colour: str, text: str = "", *, high: float = 1
    ) -> None:
        """A span on the lane; its text is left out where there is no room for it."""
        x, width = self.x(start), self.x(end) - self.x(start)
        top, height = self.y + LANE * (1 - high) / 2, LANE * high
        name = self._use(colour)
        self.parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'class="{name}"/>'
        )
        if text and len(text) * _LETTER + 4 <= width:
            self._words(x + width / 2, self.y + LANE / 2 + 4, text, f"on-{name}", anchor="middle")

    def next(self, gap: float = 8) -> None:
        """Go on to the next lane."""
        self.y += LANE + gap

    def line(self, points: Iterable[tuple[float, float]], colour: str = "path") -> None:
        """A line through points of time and height (pixels)."""
        place = " ".join(f"{self.x(at):.1f},{y:.1f}" for at, y in points)
        self.parts.append(f'<polyline points="{place}" class="stroke-{self._use(colour)}"/>')

    def dot(self, at: float, y: float, colour: str = "path") -> None:
        """A point."""
        name = self._use(colour)
        self.parts.append(f'<circle cx="{self.x(at):.1f}" cy="{y:.1f}" r="4.5" class="{name}"/>')

    def mark(self, at: float, text: str, *, top: float, bottom: float) -> None:
        """A dashed line at an instant, with a word above."""
        x = self.x(at)
        self.parts.append(
            f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" class="mark"/>'
        )
        self._words(x, top - 5, text, "words", anchor="middle")

    def rule(self, y: float, label: str) -> None:
        """A thin line across, with its value on the left."""
        self.parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" class="rule"/>'
        )
        self._words(_LEFT - 10, y + 4, label, "muted", anchor="end")

    def say(self, text: str, *, at: float | None = None, y: float | None = None) -> None:
        """A line of words below what is there, or at a place."""
        if y is None:
            self.y += 18
        x = _LEFT if at is None else self.x(at)
        self._words(x, self.y - 4 if y is None else y, text, "words")

    def axis(self, every: float, unit: str) -> None:
        """Ticks of time under the lanes."""
        self.y += 4
        at = self.begin
        while at <= self.end:
            self._words(self.x(at), self.y + 10, f"{at:g}", "muted", anchor="middle")
            at += every
        self._words(WIDTH - _RIGHT + 14, self.y + 10, unit, "muted")
        self.y += 18

    def legend(self, names: dict[str, str]) -> None:
        """colour → what it means, in a line."""
        x, self.y = float(_LEFT), self.y + 8
        for colour, text in names.items():
            name = self._use(colour)
            self.parts.append(
                f'<rect x="{x:.1f}" y="{self.y:.1f}" width="12" height="12" class="{name}"/>'
            )
            self._words(x + 17, self.y + 10, text, "words")
            x += 17 + len(text) * _LETTER + 18
        self.y += 20

    def x(self, at: float) -> float:
        """Where an instant lies."""
        part = (at - self.begin) / (self.end - self.begin)
        return _LEFT + part * (WIDTH - _LEFT - _RIGHT)

    def svg(self) -> str:
        """The picture."""
        height = round(self.y + 10)
        title = escape(self.title)
        back = f'<rect width="{WIDTH}" height="{height}" rx="8" class="back"/>'
        head = f'<text x="{_LEFT}" y="24" class="head">{title}</text>'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-label="{title}">\n'
            f"<style>\n{self._css()}</style>\n"
            + "\n".join([back, head, *self.parts])
            + "\n</svg>\n"
        )

    def _words(self, x: float, y: float, text: str, name: str, *, anchor: str = "start") -> None:
        if text:
            self.parts.append(
                f'<text x="{x:.1f}" y="{y:.1f}" class="{name}" text-anchor="{anchor}">'
                f"{escape(text)}</text>"
            )

    def _use(self, colour: str) -> str:
        name = colour.replace(":", "-").replace("_", "-")
        if name not in COLOURS:
            raise KeyError(f"no colour {colour!r}; there are {', '.join(COLOURS)}")
        self.used.add(name)
        return name

    def _css(self) -> str:
        light, dark = (self._rules(theme) for theme in THEMES)
        return (
            f"text {{ font: {_TEXT}px {FONT}; }} .head {{ font-weight: 600; font-size: 13px; }}\n"
            "polyline { fill: none; stroke-width: 3.5; stroke-linejoin: round; }\n"
            ".mark { stroke-dasharray: 4 3; }\n"
            f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"
        )

    def _rules(self, theme: Theme) -> str:
        surface = {name: colour.on(theme) for name, colour in SURFACES.items()}
        rules = [
            f".back {{ fill: {surface['card']}; stroke: {surface['border']}; }}",
            f".head, .words {{ fill: {surface['text']}; }}",
            f".muted {{ fill: {surface['muted']}; }}",
            f".mark {{ stroke: {surface['muted']}; }}",
            f".rule {{ stroke: {surface['grid']}; }}",
        ]
        for name in sorted(self.used):
            colour = COLOURS[name].on(theme)
            rules.append(f".{name} {{ fill: {colour}; }} .on-{name} {{ fill: {_ink(colour)}; }}")
            rules.append(f".stroke-{name} {{ stroke: {colour}; }}")
        return "".join(f"{rule}\n" for rule in rules)


def _ink(back: str) -> str:
    """Dark or light letters, whichever stands out more (WCAG 2.2, relative luminance)."""
    channels = [int(back[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#0d1a26" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
