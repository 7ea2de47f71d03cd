"""`rankscope calibrate --step`: the groups that communicate in some steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.cli.calibrate import groups_in
from tests.support.toy import Event, RankFacts, write_run
from tracer.errors import UsageError


def test_only_groups_of_several_ranks_that_communicate_then(tmp_path: Path) -> None:
    # Both ranks reduce over dp in step 1 alone; each has a group of its own that it uses always.
    def rows(rank: int) -> list[Event]:
        steps = [Event(start=10 * n, duration=10, kind="step", step=n) for n in (0, 1)]
        alone = [
            Event(start=10 * n, duration=1, kind="collective", step=n, group=f"ep:{rank}", seq=n)
            for n in (0, 1)
        ]
        return [
            *steps, *alone,
            Event(start=15, duration=1, kind="collective", step=1, group="dp:0-1", seq=0),
        ]  # fmt: skip

    facts = {
        rank: RankFacts(
            coordinates={"dp": rank},
            groups={
                "dp:0-1": {"dim": "dp", "ranks": [0, 1]},
                f"ep:{rank}": {"dim": "ep", "ranks": [rank]},
            },
        )
        for rank in (0, 1)
    }
    run = open_run(write_run(tmp_path / "run", {r: rows(r) for r in (0, 1)}, facts=facts))
    assert groups_in(run, slice(0, None)) == ["dp:0-1"]
    assert groups_in(run, slice(1, 2)) == ["dp:0-1"]
    with pytest.raises(UsageError, match="no group of two or more ranks communicates"):
        groups_in(run, slice(0, 1))
