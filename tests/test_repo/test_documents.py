"""The documents keep their promises: links lead somewhere, commands exist, code compiles."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import click
import pytest

from dashboard.cli.command_line import COMMANDS, rankscope
from tests.test_repo.markdown import ROOT, code_blocks, code_spans, documents, relative_links

PAGES = pytest.mark.parametrize("page", documents(), ids=lambda p: p.relative_to(ROOT).as_posix())


@PAGES
def test_every_link_into_the_repository_leads_to_a_file(page: Path) -> None:
    missing = [t for t in relative_links(page.read_text()) if not (page.parent / t).exists()]

    assert missing == []


@PAGES
def test_every_rankscope_command_exists_with_the_options_named(page: Path) -> None:
    for span in code_spans(page.read_text()):
        named = re.match(r"^(?:\$ )?rankscope ([a-z][a-z-]*)(.*)", span)
        if named is None:
            continue
        command, arguments = named.groups()
        assert command in COMMANDS, span
        ours = arguments.partition(" -- ")[0]
        assert set(re.findall(r"(?<=\s)--[a-z-]+", ours)) <= _options(command), span


def _options(command: str) -> set[str]:
    found = rankscope.get_command(click.Context(rankscope), command)
    assert found is not None
    return {"--help"} | _names(found)


def _names(command: click.Command) -> set[str]:
    """Its options and those of its sub-commands."""
    names = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            names |= _names(command.get_command(context, name) or command)
    return names


@PAGES
def test_python_and_json_blocks_parse(page: Path) -> None:
    text = page.read_text()
    for block in code_blocks(text, "python"):
        ast.parse(block)
    for block in code_blocks(text, "json"):
        for line in block.splitlines():
            json.loads(line)


def test_every_page_of_docs_is_in_the_index() -> None:
    listed = relative_links((ROOT / "docs/index.md").read_text())

    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages <= set(listed)


def test_no_document_names_a_path_of_the_machine_it_was_written_on() -> None:
    offenders = [
        (path.relative_to(ROOT).as_posix(), found)
        for path in documents()
        for found in re.findall(r"(?<![\w.])/(?:home|root|work)/\S+", path.read_text())
    ]

    assert offenders == []
