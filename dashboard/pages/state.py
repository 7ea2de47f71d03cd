"""The state of the view, which lives in the URL and nowhere else.

`/timeline?run=0&vs=1&steps=3-9&t0=1200000&t1=3400000&sel=2.1041&theme=dark` says which page, run,
second run, steps, window (ns from the run's start), selected event (rank.row) and theme; `sql` is
the query of the Query page. Reload, Back and a link sent to a colleague therefore show the same
view. Every value is checked here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode

from dashboard.figures.theme import THEMES, Theme
from tracer.errors import UsageError

MAX_QUERY_CHARACTERS: Final = 8192
"""A full view takes about 150 and its SQL up to three for each character; longer queries are not
ours and are refused unread."""

MAX_SQL_CHARACTERS: Final = 2000
"""Some forty lines of SQL."""

_MAX_FIELDS: Final = 24
_NAME = re.compile(r"[a-z][a-z0-9_]{0,23}")
_EXTRA_VALUE = re.compile(r"[\w .,:;|()\[\]+\-]*")
_EXTRA_CHARACTERS: Final = 120
_LISTS: Final = {"fold": 4000, "on": 4000}
"""Keys that list ranks or groups of ranks, and how long they may be."""
_SEARCH_CHARACTERS: Final = 200
_INTEGER = re.compile(r"[0-9]{1,16}")
_PAIR = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_SELECTION = re.compile(r"([0-9]{1,9})\.([0-9]{1,15})")


class BadView(UsageError):
    """A query string that names no view."""


@dataclass(kw_only=True, slots=True, frozen=True)
class ViewState:
    """What the URL says. `run` and `other` index the runs that the dashboard was started with."""

    run: int = 0
    other: int | None = None
    """The second run of Compare."""
    steps: tuple[int, int] | None = None
    """First and last step, both included; None: all."""
    window: tuple[int, int] | None = None
    """Start and end of the timeline's window, ns from the run's start."""
    selection: tuple[int, int] | None = None
    """The selected event: rank, and row in that rank's events."""
    theme: Theme = "light"
    sql: str = ""
    """The query of the Query page, as it was written; where it is run, it is run in a sandbox."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Keys of a single page (a chosen operation, say): short plain text, checked by that page."""

    def chosen(self, steps: Sequence[int]) -> tuple[int, ...]:
        """Those of `steps` (a run's complete steps) that lie in the chosen range."""
        if self.steps is None:
            return tuple(steps)
        first, last = self.steps
        return tuple(step for step in steps if first <= step <= last)

    def query(self) -> str:
        """The query string of this view, without what is default; `parse` reads it back."""
        fields: dict[str, str] = {}
        if self.run:
            fields["run"] = str(self.run)
        if self.other is not None:
            fields["vs"] = str(self.other)
        if self.steps is not None:
            fields["steps"] = f"{self.steps[0]}-{self.steps[1]}"
        if self.window is not None:
            fields["t0"], fields["t1"] = (str(edge) for edge in self.window)
        if self.selection is not None:
            fields["sel"] = f"{self.selection[0]}.{self.selection[1]}"
        if self.theme != "light":
            fields["theme"] = self.theme
        if self.sql:
            fields["sql"] = self.sql
        return urlencode({**fields, **self.extra})


def parse(search: str, run_count: int) -> ViewState:
    """Read a query string (with or without `?`).

    Raises:
        BadView: it is too long, or a value is not what its key needs.
    """
    if len(search) > MAX_QUERY_CHARACTERS:
        raise BadView(f"the address is longer than {MAX_QUERY_CHARACTERS:,} characters")
    try:
        pairs = parse_qsl(
            search.removeprefix("?"), keep_blank_values=True, max_num_fields=_MAX_FIELDS
        )
    except ValueError as error:
        raise BadView(f"the address has more than {_MAX_FIELDS} fields") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadView("the address names a field twice")
    return ViewState(
        run=_run("run", fields.pop("run", "0"), run_count),
        other=_run("vs", fields.pop("vs"), run_count) if "vs" in fields else None,
        steps=_steps(fields.pop("steps", "")),
        window=_window(fields.pop("t0", None), fields.pop("t1", None)),
        selection=_selection(fields.pop("sel", "")),
        theme=_theme(fields.pop("theme", "light")),
        sql=_sql(fields.pop("sql", "")),
        extra=_extra(fields),
    )


def _run(name: str, text: str, run_count: int) -> int:
    index = _integer(name, text)
    if index >= run_count:
        raise BadView(f"{name}={index}: this dashboard shows runs 0 to {run_count - 1}")
    return index


def _integer(name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise BadView(f"{name}={text[:40]!r}: wanted a whole number")
    return int(text)


def _steps(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    match = _PAIR.fullmatch(text)
    if match is None:
        raise BadView(f"steps={text[:40]!r}: wanted one step (7) or a range (3-9)")
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if last < first:
        raise BadView(f"steps={text}: the range ends before it starts")
    return first, last


def _window(start: str | None, end: str | None) -> tuple[int, int] | None:
    if start is None and end is None:
        return None
    if start is None or end is None:
        raise BadView("a window needs both t0 and t1")
    window = _integer("t0", start), _integer("t1", end)
    if window[1] <= window[0]:
        raise BadView(f"t0={start} and t1={end}: the window ends before it starts")
    return window


def _selection(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    match = _SELECTION.fullmatch(text)
    if match is None:
        raise BadView(f"sel={text[:40]!r}: wanted rank.row, such as 2.1041")
    return int(match[1]), int(match[2])


def _theme(text: str) -> Theme:
    for theme in THEMES:
        if text == theme:
            return theme
    raise BadView(f"theme={text[:40]!r}: wanted light or dark")


def _sql(text: str) -> str:
    if len(text) > MAX_SQL_CHARACTERS:
        raise BadView(f"the SQL is longer than {MAX_SQL_CHARACTERS:,} characters")
    if not all(character.isprintable() or character in "\r\n\t" for character in text):
        raise BadView("the SQL holds characters that cannot be printed")
    return text


def _extra(fields: Mapping[str, str]) -> dict[str, str]:
    for name, value in fields.items():
        if not _NAME.fullmatch(name) or not _is_short_text(name, value):
            raise BadView(f"{name[:40]!r}: not a field of any page")
    return dict(fields)


def _is_short_text(name: str, value: str) -> bool:
    if name == "q":  # what the timeline looks for: as it was typed
        return len(value) <= _SEARCH_CHARACTERS and value.isprintable()
    most = _LISTS.get(name, _EXTRA_CHARACTERS)
    return len(value) <= most and _EXTRA_VALUE.fullmatch(value) is not None
