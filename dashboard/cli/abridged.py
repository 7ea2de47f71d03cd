"""Of very many rows those that a reader looks for: what peers do on average, and who differs most
from their own peers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.text import Text

from dashboard.run import Run

MOST_ROWS: Final = 32
"""Of a table that is printed whole: a screen's."""
FURTHEST: Final = 12

Numbers = npt.NDArray[np.float64]


def peers_of(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of equal keys, in the order in which each key comes first.

    a, b, a → [0, 2], [1]
    """
    found: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return list(found.values())


def is_shorter(rows: int, peers: Sequence[Sequence[int]]) -> bool:
    """Whether a table of so many rows is too long, and one row per kind and the furthest less."""
    return rows > MOST_ROWS and len(peers) + FURTHEST < rows


def furthest(numbers: Numbers, peers: Sequence[Sequence[int]]) -> list[int]:
    """The `FURTHEST` rows that differ most in some column from the median of their peers, in order.

    One that is off does not move the median, so that equal ones stay at 0. 10, 10, 13 of one kind
    and 90 of another: the medians are 10 and 90, and only the third is away.

    Args:
        numbers: one row for each, columns of one unit.
        peers: the rows by kind.
    """
    distance = np.zeros(len(numbers))
    for places in peers:
        some = numbers[places]
        distance[places] = np.abs(some - np.median(some, axis=0)).max(axis=1)
    return largest(distance)


def largest(values: Numbers) -> list[int]:
    """The places of the `FURTHEST` largest values over 0, in order."""
    places = np.argsort(-values, kind="stable")[:FURTHEST]
    return sorted(places[values[places] > 0].tolist())


def stages_of(run: Run, rank: int) -> str:
    """The stages of a rank as the begin of its name; empty without a pipeline."""
    facts = run.facts.get(rank)
    if facts is None or not facts.stages:
        return ""
    which = "stage" if len(facts.stages) == 1 else "stages"
    return f"{which} {' '.join(map(str, facts.stages))}, "


def left_out(shown: int, of: int, what: str, which: str) -> Text:
    """The line below such a table; which: those furthest from what, say."""
    those = f"{shown} of {of:,} {what}s" if shown else f"None of {of:,} {what}s"
    return Text(f"{those}: {which} (--all prints every {what})", style="dim")


def furthest_from(names: Sequence[str]) -> str:
    """What `left_out` says of ranks with such stages."""
    return f"those furthest from the median of {'their stage' if any(names) else 'all'}"
