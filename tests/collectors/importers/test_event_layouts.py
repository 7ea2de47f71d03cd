"""When layouts of Kineto events are worked out, and what is kept where there are many."""

from __future__ import annotations

from unittest.mock import patch

from collectors.importers import event_layouts
from collectors.importers.event_layouts import Layouts
from tracer.arrays import word_array


def _have_layout(layouts: Layouts, texts: list[str]) -> list[bool]:
    """Which events of one stretch have a layout."""
    found: list[bool] = layouts.columns(word_array([*texts, " " * 16])[: len(texts)])[0].tolist()
    return found


NAMED = '{"ph": "X", "name": "%s", "ts": %s}'


def test_events_that_all_differ_are_not_worth_their_layouts() -> None:
    differ = [NAMED % ("1" * some, "1" * others) for some in range(1, 9) for others in (1, 2, 3)]
    layouts = Layouts()
    assert all(_have_layout(layouts, differ[:1] * 4))
    assert not any(_have_layout(layouts, differ[1:]))
    assert all(_have_layout(layouts, differ * 4))


def test_of_more_forms_than_are_counted_later_ones_are_counted_too() -> None:
    layouts = Layouts()
    usual, later = [NAMED % ("usual", 1)] * 40, NAMED % ("later", 1)
    with patch.object(event_layouts, "_MOST", 5):
        _have_layout(layouts, usual + [NAMED % (letter, 1) for letter in "abcdefgh"])
        assert _have_layout(layouts, [*usual, later, later, later])[40:] == [False] * 3
        assert _have_layout(layouts, [*usual, later])[40:] == [True]


def test_patterns_are_kept_where_layouts_are_forgotten() -> None:
    layouts = Layouts()
    usual = [NAMED % ("usual", 10**digits) for digits in range(9)]
    with patch.object(event_layouts, "_MOST", 5):
        assert all(_have_layout(layouts, usual * 4))
        others = [NAMED % ("other", 1)] * 40
        assert _have_layout(layouts, [*others, usual[0], NAMED % ("new", 1)])[40:] == [True, False]
