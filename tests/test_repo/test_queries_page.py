"""The cookbook of queries: each one is executed, and its answer is the one that is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dashboard import open_run
from tests.support.toy import Event, write_run
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
    answered = [block for block in code_blocks(text, "sql") if block.startswith("-- on ")]
    assert len(answered) == text.count("\n```\n\n| ")


def test_queries_over_launches_on_paper(tmp_path: Path) -> None:
    """Launches at 0, 2 and 4 µs, each of 1; their kernels from 3 to 6, 6 to 8 and 9 to 10. The
    queue is 1, 2, 1 (at 3), 2, 1 (at 6), 0 long; kernels begin 3, 4 and 5 after their launch.
    """
    launches = [
        Event(start=at, duration=1, kind="kernel", name="launch", lane="host:main launches",
              correlation=number)
        for number, at in enumerate((0, 2, 4))
    ]  # fmt: skip
    kernels = [
        Event(start=start, duration=end - start, kind="kernel", name="k", correlation=number,
              lane="device:7 kernels")
        for number, (start, end) in enumerate(((3, 6), (6, 8), (9, 10)))
    ]  # fmt: skip
    run = open_run(write_run(tmp_path / "run", {0: launches + kernels}, scale=1000))
    page = (ROOT / "docs" / "migrating" / "from-torch-profiler-and-hta.md").read_text()
    queue, delay = (b for b in code_blocks(page, "sql") if not b.startswith("-- on "))
    assert run.sql(queue).to_pylist() == [
        {"rank": 0, "lane": "device:7 kernels", "shortest": 0, "median": 1.0, "longest": 2}
    ]
    assert run.sql(delay).to_pylist() == [
        {"rank": 0, "name": "k", "kernels": 3, "call_us": 1.0, "kernel_us": 2.0, "delay_us": 4.0}
    ]


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
