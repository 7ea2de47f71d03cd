"""What every result of an analysis has in common: tables that turn into plain JSON values, data
frames, and HTML for notebooks.
"""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from html import escape
from typing import Any, Final

import pyarrow as pa

_ROWS_SHOWN: Final = 12
"""Of each table, in a notebook: enough to see what it holds."""


class Result:
    """Base of the results, which are frozen dataclasses of tables and small facts."""

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers: tables as lists of rows, NaN and infinities as null."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: plain(getattr(self, field.name)) for field in fields}

    def tables(self) -> dict[str, pa.Table]:
        """Its tables by name, the most important one first."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {field.name: getattr(self, field.name) for field in fields}
        return {name: value for name, value in values.items() if isinstance(value, pa.Table)}

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
        facts, shown = [], []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, pa.Table):
                shown.append(table_html(field.name, value))
            elif isinstance(value, (str, int, float)):
                facts.append(f"<li>{escape(field.name)}: {escape(cell(value))}</li>")
        listed = f"<ul>{''.join(facts)}</ul>" if facts else ""
        return f"<div><b>{escape(type(self).__name__)}</b>{listed}{''.join(shown)}</div>"


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
    """A value for people: digits grouped, floats to 4 significant digits, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


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
