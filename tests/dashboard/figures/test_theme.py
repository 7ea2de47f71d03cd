"""The palette: complete, readable, and told apart by people with colour blindness."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from dashboard.figures.theme import CATEGORIES, KINDS, SURFACES, THEMES, Theme, css, template
from tracer.schema import KINDS as SCHEMA_KINDS

# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB
# (https://www.inf.ufrgs.br/~oliveira/pubs_files/CVD_Simulation/CVD_Simulation.html)
VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip

MAIN = ("forward", "backward", "optimizer", "collective", "send", "wait")
"""The kinds that stand side by side in every pipeline."""

LEAST_DISTANCE = 10.0
"""CIELAB units; about 2.3 is the least that can be seen side by side (Mahy et al. 1994)."""

READABLE = 4.5
"""Contrast of text that WCAG 2.2 asks for (1.4.3)."""


def linear(colour: str) -> NDArray[np.float64]:
    srgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    light, dark = sorted(
        (float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other)), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(to_xyz @ rgb.clip(0, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_every_kind_has_a_colour() -> None:
    assert set(KINDS) == set(SCHEMA_KINDS)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("text", ["text", "muted", "accent"])
@pytest.mark.parametrize("surface", ["page", "card"])
def test_text_is_readable(theme: Theme, text: str, surface: str) -> None:
    assert contrast(SURFACES[text].on(theme), SURFACES[surface].on(theme)) >= READABLE


@pytest.mark.parametrize("theme", THEMES)
def test_warnings_are_readable(theme: Theme) -> None:
    back = SURFACES["warning-back"].on(theme)
    assert contrast(SURFACES["warning"].on(theme), back) >= READABLE


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("vision", VISION)
def test_neighbours_are_told_apart(theme: Theme, vision: str) -> None:
    seen = {kind: lab(VISION[vision] @ linear(KINDS[kind].on(theme))) for kind in MAIN}
    seen["idle"] = lab(VISION[vision] @ linear(CATEGORIES["idle"].on(theme)))
    near = {
        (a, b): round(float(np.linalg.norm(seen[a] - seen[b])), 1)
        for a, b in combinations(seen, 2)
        if np.linalg.norm(seen[a] - seen[b]) < LEAST_DISTANCE
    }
    assert near == {}


def test_css_and_template_hand_out_the_same_colours() -> None:
    for theme in THEMES:
        block = css().split(f'data-theme="{theme}"')[1].split("}")[0]
        assert f"--kind-backward-input: {KINDS['backward_input'].on(theme)};" in block
        assert f"--category-comm-tp: {CATEGORIES['comm:tp'].on(theme)};" in block
        assert template(theme).layout.font.color == SURFACES["text"].on(theme)
