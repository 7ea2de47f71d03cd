"""Which directories hold other attempts of the same training."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.runs.attempts import other_attempts
from tests.support.toy import Event, write_run

STEP = Event(start=0, duration=100, kind="step", name="step")
NAMES = ["a", "a.restart-1", "a.restart-2", "a.restart-10"]


@pytest.mark.parametrize("name", NAMES)
def test_all_attempts_but_oneself_in_order(tmp_path: Path, name: str) -> None:
    for other in (*NAMES, "b", "ab", "a.restart-x", "x.a.restart-1"):
        write_run(tmp_path / other, {0: [STEP]})
    (tmp_path / "a.restart-3").mkdir()

    found = [path.name for path in other_attempts(tmp_path / name)]
    assert found == [other for other in NAMES if other != name]


def test_a_relative_path_stays_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "a.restart-1"):
        write_run(tmp_path / "runs" / name, {0: [STEP]})
    monkeypatch.chdir(tmp_path)
    assert other_attempts("runs/a") == [Path("runs/a.restart-1")]

    monkeypatch.chdir(tmp_path / "runs" / "a")
    assert other_attempts(".") == [tmp_path / "runs" / "a.restart-1"]
