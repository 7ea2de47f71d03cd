"""The formats that a run is exported to: what each is for, and who writes it.

A new format is one module that writes it, and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dashboard.export.files import STANDARD_OUTPUT, Advance
from dashboard.export.selection import select
from dashboard.runs import Recording
from tracer.errors import UsageError


@dataclass(kw_only=True, slots=True, frozen=True)
class Format:
    """One kind of export.

    Attributes:
        title: what it is for, in a few words.
        writer: module and function that write it: (Selection, Path, Advance).
        suffix: of the file or directory, where none is named.
        has_tables: whether it takes `tables`, views by name.
        to_standard_output: whether `-` can be named as the file.
    """

    title: str
    writer: str
    suffix: str
    has_tables: bool = False
    to_standard_output: bool = False


FORMATS: Final[dict[str, Format]] = {
    "perfetto": Format(
        title="ui.perfetto.dev and trace_processor: protobuf with tracks, flows and counters",
        writer="dashboard.export.perfetto:write",
        suffix=".pftrace",
    ),
    "chrome": Format(
        title="chrome://tracing: the same as JSON, which rankscope import kineto reads back",
        writer="dashboard.export.chrome:write",
        suffix=".json.gz",
    ),
    "parquet": Format(
        title="pandas, DuckDB, Spark: a directory with a file per rank, on one clock",
        writer="dashboard.export.columnar:write_parquet",
        suffix=".parquet",
        has_tables=True,
    ),
    "csv": Format(
        title="spreadsheets: one table (--table)",
        writer="dashboard.export.columnar:write_csv",
        suffix=".csv",
        has_tables=True,
        to_standard_output=True,
    ),
    "tensorboard": Format(
        title="TensorBoard: numbers of each step as scalars, beside the loss",
        writer="dashboard.export.trackers:write_tensorboard",
        suffix=".tensorboard",
    ),
    "wandb": Format(
        title="Weights & Biases: the same, offline unless WANDB_MODE says otherwise",
        writer="dashboard.export.trackers:write_wandb",
        suffix=".wandb",
    ),
}


def export(
    run: Recording,
    to: str,
    out: Path,
    *,
    ranks: Collection[int] | None = None,
    steps: Collection[int] | None = None,
    tables: Collection[str] = (),
    advance: Advance = lambda done: None,
) -> None:
    """Write a run, or some ranks and steps of it, to `out`.

    to: one of `FORMATS`.
    tables: views by name, for formats that hold tables.
    advance: told of work that is done; 1.0 is one rank.

    Raises:
        UsageError: no such format, rank or table; a package that it needs is missing; or `out`
            cannot be written.
    """
    if to not in FORMATS:
        raise UsageError(f"{to!r} is not a format to export to; there are: {', '.join(FORMATS)}")
    format = FORMATS[to]
    if tables and not format.has_tables:
        with_tables = ", ".join(name for name, found in FORMATS.items() if found.has_tables)
        raise UsageError(f"{to} holds events, not tables; tables go to: {with_tables}")
    if out == STANDARD_OUTPUT and not format.to_standard_output:
        raise UsageError(f"{to} cannot be written to standard output; name a file (-o FILE)")
    module, _, function = format.writer.partition(":")
    write: Callable[..., None] = getattr(import_module(module), function)
    chosen: Any = {"tables": tuple(dict.fromkeys(tables))} if tables else {}
    write(select(run, ranks, steps), out, advance, **chosen)


def default_name(run: Recording, to: str, tables: Collection[str] = ()) -> Path:
    """The file of the current directory that is written where none is named."""
    middle = "".join(f".{table}" for table in tables) if to == "csv" else ""
    return Path(f"{run.name}{middle}{FORMATS[to].suffix}")
