"""The range of `--step`, as users write it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from dashboard import open_run
from dashboard.cli.options import StepRange, chosen_steps
from tests.support.pipeline_toy import write_pipeline
from tracer.errors import UsageError


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ("1:3", [1, 2]),
        ("2:", [2, 3, 4]),
        (":2", [0, 1]),
        (":", [0, 1, 2, 3, 4]),
        ("3", [3]),
        ("-1", [4]),
        ("-2:", [3, 4]),
        (":-2", [0, 1, 2]),
        ("-3:-1", [2, 3]),
        ("3:99", [3, 4]),
    ],
)
def test_ranges(said: str, steps: list[int], tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run", steps=5))
    assert chosen_steps(run, StepRange().convert(said, None, None)) == steps


@pytest.mark.parametrize("said", ["5:3", "4:4", "-1:-3", "x", "1:2:3", ""])
def test_what_is_no_range_is_refused(said: str) -> None:
    with pytest.raises(click.UsageError, match=r"holds no step|is not a range"):
        StepRange().convert(said, None, None)


def test_steps_that_the_run_lacks(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run", steps=5))
    with pytest.raises(UsageError, match=r"no complete step in 7:9; complete steps: 0 to 4"):
        chosen_steps(run, StepRange().convert("7:9", None, None))
