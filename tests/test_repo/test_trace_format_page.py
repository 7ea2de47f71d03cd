"""docs/trace-format.md lists every column, kind and field of the format, and nothing else."""

from __future__ import annotations

import dataclasses
import re

import pyarrow as pa
import pytest

from tests.test_repo.markdown import ROOT, section, tables
from tracer.run_files import RankFacts, RunMeta
from tracer.schema import CLOCK_SCHEMA, COUNTER_SCHEMA, EVENT_SCHEMA, KINDS, file_metadata

PAGE = (ROOT / "docs/trace-format.md").read_text()


def _type_name(type_: pa.DataType) -> str:
    return "dictionary" if pa.types.is_dictionary(type_) else str(type_)


@pytest.mark.parametrize(
    ("heading", "schema"),
    [
        ("Events: `rank-NNNNN.arrows`", EVENT_SCHEMA),
        ("Counters: `rank-NNNNN.counters.arrows`", COUNTER_SCHEMA),
        ("Clock samples: `rank-NNNNN.clock.arrows`", CLOCK_SCHEMA),
    ],
)
def test_the_page_lists_the_columns_of_the_schema(heading: str, schema: pa.Schema) -> None:
    listed = [tuple(row[:4]) for row in tables(section(PAGE, heading))[0][1:]]

    assert listed == [
        (
            f"`{field.name}`",
            _type_name(field.type),
            (field.metadata or {}).get(b"unit", b"").decode(),
            "yes" if field.nullable else "no",
        )
        for field in schema
    ]


def test_the_page_lists_every_kind() -> None:
    kinds = tables(section(PAGE, "Events: `rank-NNNNN.arrows`"))[1][1:]

    assert [name for row in kinds for name in re.findall(r"`(\w+)`", row[0])] == list(KINDS)


@pytest.mark.parametrize(
    ("heading", "fields", "beside"),
    [
        ("`run.json`", RunMeta, {"format", "format_version"}),
        ("`rank-NNNNN.json`", RankFacts, set()),
    ],
)
def test_the_page_lists_every_field_of_the_json_files(
    heading: str, fields: type, beside: set[str]
) -> None:
    rows = tables(section(PAGE, heading))[0][1:]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}

    assert listed == {field.name for field in dataclasses.fields(fields)} | beside


def test_the_page_lists_the_metadata_of_an_arrow_file() -> None:
    rows = tables(section(PAGE, "What an Arrow file says of itself"))[0][1:]

    assert [row[0].strip("`").encode() for row in rows] == list(
        file_metadata("events", run_id="r", rank=0)
    )
