"""`Run` answers each question once: what it has answered lately, it still knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import Run, open_run
from tests.support.pipeline_toy import write_pipeline

QUESTIONS = ("accounting", "bubbles", "bandwidth", "critical_path")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(write_pipeline(tmp_path / "run", steps=3))


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_same_question_has_the_same_answer(run: Run, question: str) -> None:
    ask = getattr(run, question)
    everything = ask()
    assert ask(run.steps) is everything
    assert ask([2, 1, 0, 99]) is everything
    assert ask({1}) is ask((1,))


@pytest.mark.parametrize("question", QUESTIONS)
def test_other_steps_and_other_runs_have_their_own(run: Run, tmp_path: Path, question: str) -> None:
    everything = getattr(run, question)()
    one = getattr(run, question)([1])
    assert one.to_json() != everything.to_json()
    assert getattr(open_run(tmp_path / "run"), question)() is not everything


def test_no_steps_are_not_all_steps(run: Run) -> None:
    assert run.accounting([]).windows.num_rows == 0
    assert run.bubbles([]).steps.num_rows == 0
