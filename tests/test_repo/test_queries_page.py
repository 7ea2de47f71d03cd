"""The cookbook of queries: each one is executed, and its answer is the one that is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_repo.markdown import ROOT, code_blocks

PAGE = ROOT / "docs" / "queries.md"
MIGRATING = sorted((ROOT / "docs" / "migrating").glob("*.md"))
QUESTIONS = 15
"""So many at least were promised."""


def test_every_answer_is_what_its_query_gives() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/update_queries.py", "--check"], cwd=ROOT, check=False
    )
    assert done.returncode == 0, "queries in docs/ are out of date: run make readme"


def test_every_question_has_one_query_and_an_answer() -> None:
    questions = PAGE.read_text().split("\n## ")[1:]
    assert len(questions) >= QUESTIONS
    for question in questions:
        assert len(code_blocks(question, "sql")) == 1, question
        assert "\n```\n\n| " in question, question


@pytest.mark.parametrize("page", MIGRATING, ids=lambda page: page.name)
def test_every_query_of_the_migration_pages_has_an_answer(page: Path) -> None:
    text = page.read_text()
    assert len(code_blocks(text, "sql")) == text.count("\n```\n\n| ")


def test_the_check_notices_a_wrong_answer() -> None:
    # Against a pattern that matches no block: then nothing would be executed at all.
    wrong = "```sql\n-- on pp4-gpipe\nselect 1 as a\n```\n\n| a |\n| --- |\n| 2 |\n"
    script = (
        "import sys; from update_queries import updated; sys.stdout.write(updated(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, wrong],
        cwd=ROOT / "scripts", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == wrong.replace("| 2 |", "| 1 |")
