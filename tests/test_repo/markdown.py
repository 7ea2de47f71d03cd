"""Take Markdown apart as far as the tests of the documents need it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SKIPPED = {".venv", "node_modules", "runs", ".git"}


def documents() -> list[Path]:
    """Every Markdown file of the repository, sorted."""
    found = ROOT.rglob("*.md")
    return sorted(
        path
        for path in found
        if not any(
            part in _SKIPPED or part.startswith(".") for part in path.relative_to(ROOT).parts
        )
    )


def section(text: str, heading: str) -> str:
    """What stands under the `##` heading, up to the next one of that level."""
    _, _, below = text.partition(f"\n## {heading}\n")
    assert below, f"no heading {heading!r}"
    return below.split("\n## ")[0]


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a text: rows of cells, the header row first, code marks kept."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.MULTILINE)
    return [
        [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in block.strip().splitlines()
            if not re.fullmatch(r"[|\s:-]+", line)
        ]
        for block in blocks
    ]


def code_blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def code_spans(text: str) -> list[str]:
    """What stands in code font: the lines of fenced blocks and the inline spans."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", prose)


def relative_links(text: str) -> list[str]:
    """Targets of links and pictures that point into the repository, without their anchors."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [t.split("#")[0] for t in targets if "://" not in t and not t.startswith("#")]
