"""What every result of an analysis has in common: tables that turn into plain JSON values, data
frames, and HTML for notebooks.
"""

from __future__ import annotations

import dataclasses
import json
import math
from decimal import Decimal
from html import escape
from typing import Any, Final

import pyarrow as pa

_ROWS_SHOWN: Final = 12
"""Of each table, in a notebook: enough to see what it holds."""
_LISTED: Final = 8
"""Values that are listed one by one on a line."""


class Result:
    """Base of the results, which are frozen dataclasses of tables and small facts."""

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers: tables as lists of rows, NaN and infinities as null."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: plain(getattr(self, field.name)) for field in fields}

    def tables(self) -> dict[str, pa.Table]:
        """Its tables by name, the most important one first; what it lists (findings, predictions)
        is a table, too.
        """
        found = {}
        for name, value in self._values():
            if isinstance(value, pa.Table):
                found[name] = value
            elif _is_listing(value):
                found[name] = pa.Table.from_pylist([_flat(item) for item in value])
        return found

    def to_arrow(self, name: str | None = None) -> pa.Table:
        """One of its tables (`tables()` has the names), the first one by default.

        Raises:
            KeyError: it has no such table.
        """
        tables = self.tables()
        wanted = next(iter(tables), None) if name is None else name
        if wanted is None or wanted not in tables:
            names = ", ".join(tables) or "none"
            raise KeyError(f"{type(self).__name__} has no table {name!r}; it has: {names}")
        return tables[wanted]

    def to_pandas(self, name: str | None = None) -> Any:
        """The same as a pandas DataFrame (needs pandas)."""
        return self.to_arrow(name).to_pandas()

    def to_polars(self, name: str | None = None) -> Any:
        """The same as a polars DataFrame (needs polars)."""
        import polars

        return polars.from_arrow(self.to_arrow(name))

    def _repr_html_(self) -> str:
        """For notebooks: its facts, and the first rows of its tables."""
        tables = self.tables()
        shown = [table_html(name, table) for name, table in tables.items()]
        facts = [_fact(name, value) for name, value in self._values() if name not in tables]
        listed = "".join(f"<li>{fact}</li>" for fact in facts if fact)
        listed = f"<ul>{listed}</ul>" if listed else ""
        return f"<div><b>{escape(type(self).__name__)}</b>{listed}{''.join(shown)}</div>"

    def __init_subclass__(cls) -> None:
        # Before `dataclass` makes one that prints whole tables.
        if "__repr__" not in vars(cls):
            cls.__repr__ = Result.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """`Accounting(table=<576 rows: rank, step, category, duration>, …)`."""
        said = ", ".join(f"{name}={_short(value)}" for name, value in self._values())
        return f"{type(self).__name__}({said})"

    def _values(self) -> list[tuple[str, Any]]:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return [(field.name, getattr(self, field.name)) for field in fields]


def _is_listing(value: Any) -> bool:
    """Several records of one kind."""
    is_record = dataclasses.is_dataclass
    return isinstance(value, (tuple, list)) and bool(value) and all(map(is_record, value))


def _flat(record: Any) -> dict[str, Any]:
    """A record as a row: what is nested in it as JSON."""
    found: dict[str, Any] = plain(record)
    return {
        name: json.dumps(value) if isinstance(value, (list, dict)) else value
        for name, value in found.items()
    }


def _fact(name: str, value: Any) -> str:
    """A line of HTML; nothing where there is nothing to say."""
    if value is None or (isinstance(value, (tuple, list, dict)) and not value):
        return ""
    if name.endswith("_ns") and isinstance(value, (int, float)):
        return f"{escape(name.removesuffix('_ns'))}: {value / 1e6:,.4g} ms"
    if dataclasses.is_dataclass(value):
        inner = "".join(f"<li>{_fact(k, v)}</li>" for k, v in _flat(value).items() if v is not None)
        return f"{escape(name)}: <ul>{inner}</ul>"
    if isinstance(value, (tuple, list)) and all(isinstance(item, str) for item in value):
        return f"{escape(name)}: <ul>{''.join(f'<li>{escape(v)}</li>' for v in value)}</ul>"
    return f"{escape(name)}: {escape(_short(value) if isinstance(value, tuple) else cell(value))}"


def _short(value: Any) -> str:
    """A value on one line: of tables and long lists their size."""
    if isinstance(value, pa.Table):
        rows = f"{value.num_rows:,} row{'s' * (value.num_rows != 1)}"
        return f"<{rows}: {', '.join(value.column_names)}>"
    if isinstance(value, tuple) and len(value) > _LISTED:
        if all(isinstance(item, int) for item in value):
            return f"<{len(value):,} from {min(value)} to {max(value)}>"
        return f"<{len(value):,} × {type(value[0]).__name__}>"
    return repr(value)


def table_html(title: str, table: pa.Table) -> str:
    """The first rows of `table` as an HTML table under its title, all text escaped."""
    rows = table.slice(0, _ROWS_SHOWN)
    head = "".join(f"<th>{escape(name)}</th>" for name in rows.column_names)
    columns = [column.to_pylist() for column in rows.columns]
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell(value))}</td>' for value in row)}</tr>"
        for row in zip(*columns, strict=True)
    )
    count = f"{table.num_rows:,} row{'s' * (table.num_rows != 1)}"
    if table.num_rows > rows.num_rows:
        count += f", the first {rows.num_rows} shown"
    caption = f"<caption>{escape(title)}: {count}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cell(value: Any) -> str:
    """A value for people: digits grouped, floats to 4 significant digits or whole from 1,000 on,
    nothing for null.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"


def plain(value: Any) -> Any:
    """What JSON can hold of `value`; what it has no word for (dates, bytes) as text."""
    if isinstance(value, pa.Table):
        return plain(value.to_pylist())
    if isinstance(value, Result):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
