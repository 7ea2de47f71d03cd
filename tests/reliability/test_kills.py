"""A few trials of kills.py; `python -m tests.reliability.kills` does hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.kills import figures, trials

TRIALS = 8


@pytest.mark.distributed
def test_what_killed_ranks_leave_is_whole_up_to_the_last_flush_and_named(tmp_path: Path) -> None:
    found = figures(list(trials(TRIALS, ranks=2, seed=5, directory=tmp_path)))

    assert found["broken_promises"] == []
    assert found["trials"] == TRIALS
    assert found["files_unopened"] == 0
    assert found["killed_ranks"] > found["trials_killed_before_anything_was_recorded"]
