"""Write the answers to queries in the docs anew, so that they are what the queries give today.

A block ```` ```sql ```` begins with `-- on` and the sample traces that it asks; the table that
follows is its answer. With `--check` nothing is written; the exit code says whether something
would be.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from dashboard import Run, open_run
from dashboard.sql import query

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "docs" / "queries.md", *sorted((ROOT / "docs" / "migrating").glob("*.md"))]
SAMPLES = ROOT / "sample_traces"
_BLOCK = re.compile(r"^```sql\n-- on (.+)\n((?:.*\n)*?)```\n\n(?:\|.*\n)*", flags=re.MULTILINE)


def main() -> int:
    """Rewrite the pages, or with `--check` only compare."""
    stale = False
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = updated(old)
        stale = stale or new != old
        if "--check" not in sys.argv[1:]:
            page.write_text(new, encoding="utf-8")
    return int(stale and "--check" in sys.argv[1:])


def updated(text: str) -> str:
    """The page with the present answer under every query."""
    return _BLOCK.sub(_answered, text)


def _answered(block: re.Match[str]) -> str:
    names, sql = block[1], block[2]
    table = query([_sample(name) for name in names.split(", ")], sql).table
    rows = [table.column_names, ["---"] * table.num_columns]
    rows += [[_cell(value) for value in row.values()] for row in table.to_pylist()]
    answer = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"```sql\n-- on {names}\n{sql}```\n\n{answer}"


@cache
def _sample(name: str) -> Run:
    return open_run(SAMPLES / name)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
