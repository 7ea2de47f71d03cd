"""SQL over a run: DuckDB on the Arrow tables, read-only, without files or network.

Only the views that a query names are made. A query has to end within `TIME_LIMIT_S` and stay
under `MEMORY_LIMIT`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa

from dashboard.analysis.accounting import account
from dashboard.analysis.bandwidth import measure_bandwidth
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.runs import Recording

TIME_LIMIT_S: Final = 60.0
MEMORY_LIMIT: Final = "2GB"


@dataclass(frozen=True)
class QueryResult:
    """The rows of a query; `is_cut`: there are more of them than were asked for."""

    table: pa.Table
    is_cut: bool = False

    def to_arrow(self) -> pa.Table:
        """As an Arrow table."""
        return self.table

    def to_pandas(self) -> Any:
        """As a pandas DataFrame (needs pandas)."""
        return self.table.to_pandas()

    def to_pylist(self) -> list[dict[str, Any]]:
        """As a list of dictionaries."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows

    def __repr__(self) -> str:
        return str(duckdb.from_arrow(self.table))


def _ranks(run: Recording) -> pa.Table:
    rows = [
        {
            "rank": rank,
            "host": run.facts[rank].host,
            "device": run.facts[rank].device,
            "stages": list(run.facts[rank].stages),
            "coordinates": [f"{k}={v}" for k, v in run.facts[rank].coordinates.items()],
            "dropped": run.facts[rank].dropped,
        }
        for rank in run.ranks
    ]
    words = pa.list_(pa.string())
    schema = pa.schema(
        [
            ("rank", pa.int32()),
            ("host", pa.string()),
            ("device", pa.string()),
            ("stages", pa.list_(pa.int32())),
            ("coordinates", words),
            ("dropped", pa.int64()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


VIEWS: Final[dict[str, Callable[[Recording], pa.Table]]] = {
    "events": lambda run: run.events(),
    "steps": lambda run: run.answer(account).windows,
    "accounting": lambda run: run.answer(account).table,
    "collectives": lambda run: run.answer(measure_bandwidth).operations,
    "ranks": _ranks,
}
"""View → what it holds; docs/concepts.md lists the columns."""


def query(
    run: Recording, text: str, *, most_rows: int | None = None, time_limit_s: float | None = None
) -> QueryResult:
    """Run one SELECT; of its rows the first `most_rows`, within `time_limit_s` (`TIME_LIMIT_S`).

    Raises:
        UsageError: it is not one SELECT, it is wrong, or it exceeded a limit.
    """
    limit_s = TIME_LIMIT_S if time_limit_s is None else time_limit_s
    with duckdb.connect(":memory:") as connection:
        for name, view in VIEWS.items():
            if name in text.lower():
                connection.register(name, view(run))
        _lock(connection)
        try:
            statements = connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UsageError("a query is one SELECT statement; nothing else is allowed here")
            return _within_time(connection, text, most_rows, limit_s)
        except duckdb.InterruptException as error:
            raise UsageError(f"the query took over {limit_s:.0f} s: narrow it") from error
        except duckdb.OutOfMemoryException as error:
            raise UsageError(f"the query needs over {MEMORY_LIMIT} of memory: narrow it") from error
        except duckdb.Error as error:
            views = ", ".join(VIEWS)
            raise UsageError(f"{str(error).splitlines()[0]} (views: {views})") from error


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    """From here on no file, no network, no Python variable, and no way to change that.

    Without a temporary directory a query that needs more memory fails; with one, it would write
    what does not fit into the working directory, outside of what `enable_external_access` forbids.
    """
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute("SET temp_directory = ''")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _within_time(
    connection: duckdb.DuckDBPyConnection, text: str, most_rows: int | None, limit_s: float
) -> QueryResult:
    timer = threading.Timer(limit_s, connection.interrupt)
    timer.start()
    try:
        rows = connection.sql(text)
        if most_rows is None:
            return QueryResult(rows.to_arrow_table())
        table = rows.limit(most_rows + 1).to_arrow_table()
        return QueryResult(table.slice(0, most_rows), is_cut=table.num_rows > most_rows)
    finally:
        timer.cancel()
