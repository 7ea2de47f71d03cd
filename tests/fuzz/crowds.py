"""Runs with many rows of one odd kind: what takes a square of them in time or memory shows here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.support.toy import Event, RankFacts, write_run

MANY: Final = 8_000
"""Squared it is 64 million: a minute in Python, gigabytes in a table."""

_STEP: Final = Event(start=0, duration=MANY * 10, kind="step", name="step")
_SEND: Final = Event(
    start=5, duration=1, kind="send", name="send", group="pp:0-1", seq=0, peer=1, bytes=8
)


def overlapping_spans() -> list[Event]:
    """Every span is open when the next one begins."""
    return [Event(start=n, duration=MANY + n, kind="user", name="x") for n in range(MANY)]


def one_message_again_and_again() -> list[Event]:
    """Sends of the same number; the other rank receives as often."""
    return [replace(_SEND, start=n) for n in range(MANY)]


def groups() -> list[Event]:
    """A group, a dimension, a name and a lane for every row; a table of them is long to print."""
    return [
        Event(
            start=n, duration=1, kind="collective", name=f"op{n}", lane=f"host:{n}",
            group=f"dim{n}:0-1", seq=n, bytes=8, correlation=n,
        )
        for n in range(MANY // 10)
    ]  # fmt: skip


def steps() -> list[Event]:
    """A step of no length for every row."""
    each = range(MANY // 10)
    return [Event(start=n, duration=0, kind="step", name="step", step=n) for n in each]


def stages() -> list[Event]:
    """A stage and a microbatch for every row."""
    return [
        Event(start=n, duration=1, kind="forward", name="F", stage=n, microbatch=n)
        for n in range(MANY)
    ]


def repeated_actions() -> list[Event]:
    """The same forward over and over, all at once."""
    one = Event(start=0, duration=5, kind="forward", name="F", stage=0, microbatch=0)
    return [one] * MANY


CROWDS: Final[dict[str, Callable[[], list[Event]]]] = {
    crowd.__name__: crowd
    for crowd in (
        overlapping_spans,
        one_message_again_and_again,
        groups,
        steps,
        stages,
        repeated_actions,
    )
}


def write_crowd(path: Path, name: str) -> Path:
    """A run of two ranks with that crowd on both."""
    rows = CROWDS[name]()
    kinds = {"send": "recv"}
    mirrored = [
        replace(row, kind=kinds.get(row.kind, row.kind), name=kinds.get(row.name, row.name), peer=0)
        if row.kind == "send"
        else row
        for row in rows
    ]
    facts = {rank: RankFacts(coordinates={"pp": rank}, stages=(rank,)) for rank in (0, 1)}
    return write_run(path, {0: [_STEP, *rows], 1: [_STEP, *mirrored]}, facts=facts)
