"""Tables of a run as Parquet and CSV: the views of SQL, on the common clock."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from dashboard.analysis.whole_run.views import VIEWS
from dashboard.export.files import STANDARD_OUTPUT, Advance, new_directory, replacing_file
from dashboard.export.selection import Selection
from tracer.errors import UsageError
from tracer.json_values import strict_json
from tracer.schema import EVENT_SCHEMA, FORMAT_VERSION

_BY_RANK: Final = ("events", "counters")
"""Views that are as large as the run; these are written rank by rank."""
_ROW_GROUP: Final = 1 << 20
"""Rows that a reader can leave out together by their times: some 20 MB."""
_CSV_ROWS: Final = 1 << 16
_ON_COMMON_CLOCK: Final = (
    "begin, from the first event of the run, on the clock that all ranks share"
)


def write_parquet(
    chosen: Selection, out: Path, advance: Advance, tables: Collection[str] = _BY_RANK
) -> None:
    """A directory: `events/rank-00000.parquet` and `counters/…` with a file per rank, and one file
    for every other view. `read_parquet('DIR/events/*.parquet')` reads all ranks.

    Raises:
        UsageError: something is at `out` already, or it cannot be written.
    """
    with new_directory(out):
        for name in tables:
            if name in _BY_RANK:
                _write_by_rank(chosen, out / name, name, lambda p: advance(p / len(tables)))
            else:
                table = _view(chosen, name)
                schema = _described(chosen, table.schema, name)
                with pq.ParquetWriter(out / f"{name}.parquet", schema, compression="zstd") as file:
                    file.write_table(table.cast(schema), row_group_size=_ROW_GROUP)
                advance(len(chosen.ranks) / len(tables))


def _write_by_rank(chosen: Selection, folder: Path, name: str, advance: Advance) -> None:
    folder.mkdir()
    for rank in chosen.ranks:
        table = chosen.events(rank) if name == "events" else chosen.counters(rank)
        schema = _described(chosen, table.schema, name, rank)
        path = folder / f"rank-{rank:05d}.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as file:
            file.write_table(table.cast(schema), row_group_size=_ROW_GROUP)
        advance(1.0)


def write_csv(
    chosen: Selection, out: Path, advance: Advance, tables: Collection[str] = ("events",)
) -> None:
    """One view as CSV with a line of names; compressed if `out` ends with `.gz`, to standard output
    if it is `-`. Lists are written as JSON.

    Raises:
        UsageError: several tables are asked for, or `out` cannot be written.
    """
    if len(tables) != 1:
        raise UsageError("a CSV file holds one table; export each to a file of its own")
    (name,) = tables
    with _csv_target(out) as target:
        writer = None
        for table in _parts(chosen, name, advance):
            plain = as_text(table)
            if writer is None:
                writer = csv.CSVWriter(target, plain.schema)
            for first in range(0, plain.num_rows, _CSV_ROWS):
                writer.write_table(plain.slice(first, _CSV_ROWS))
        if writer is not None:
            writer.close()


@contextlib.contextmanager
def _csv_target(out: Path) -> Iterator[Any]:
    if out == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        return
    with replacing_file(out) as file:
        yield file


def _parts(chosen: Selection, name: str, advance: Advance) -> Iterator[pa.Table]:
    if name not in _BY_RANK:
        yield _view(chosen, name)
        advance(len(chosen.ranks))
        return
    for rank in chosen.ranks:
        yield chosen.events(rank) if name == "events" else chosen.counters(rank)
        advance(1.0)


def _view(chosen: Selection, name: str) -> pa.Table:
    """The rows of a view that are of the chosen ranks and steps, where it tells these."""
    table = VIEWS[name](chosen.run)
    for column, wanted in (("rank", chosen.ranks), ("step", chosen.steps)):
        if wanted is not None and column in table.column_names:
            table = table.filter(pc.is_in(table[column], pa.array(wanted, pa.int32())))
    return table


def _described(
    chosen: Selection, schema: pa.Schema, content: str, rank: int | None = None
) -> pa.Schema:
    """The schema with the meanings and units of the trace's columns, and of which run it is."""
    run = chosen.run
    about: dict[str, str] = {
        "rankscope.content": content,
        "rankscope.format_version": str(FORMAT_VERSION),
        "rankscope.run_id": run.meta.run_id,
        "rankscope.clock": f"common: {run.clock}",
        "rankscope.run": strict_json(asdict(run.meta)),
    }
    if rank is not None:
        about["rankscope.rank"] = str(rank)
        about["rankscope.facts"] = strict_json(asdict(run.facts[rank]))
    fields = [_field(field, content) for field in schema]
    return pa.schema(fields, metadata=about)


def _field(field: pa.Field, content: str) -> pa.Field:
    known: Mapping[bytes, bytes] = {}
    if content == "events" and field.name in EVENT_SCHEMA.names:
        known = EVENT_SCHEMA.field(field.name).metadata or {}
    if field.name in ("start", "ts") and content in _BY_RANK:
        known = {**known, b"meaning": _ON_COMMON_CLOCK.encode(), b"unit": b"ns"}
    return field.with_metadata(known) if known else field


def as_text(table: pa.Table) -> pa.Table:
    """The same as CSV can hold it: words as text, lists as JSON."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        elif pa.types.is_nested(column.type):
            column = pa.array(list(map(strict_json, column.to_pylist())), pa.string())
        columns[name] = column
    return pa.table(columns)
