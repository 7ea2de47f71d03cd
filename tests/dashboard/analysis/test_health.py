"""What is to be known of a recording before its numbers are believed."""

from __future__ import annotations

from pathlib import Path

from dashboard import open_run
from dashboard.analysis.health import Health, health
from tests.support.toy import Event, RankFacts, write_run

STEP = [Event(start=0, duration=10, kind="step", name="step")]
SAMPLES = Path(__file__).parents[3] / "sample_traces"


def test_missing_ranks_drops_and_clocks_are_said(tmp_path: Path) -> None:
    """Ranks 0 and 3 of 4, on two hosts whose clocks nobody compared; rank 3 dropped 1,500."""
    facts = {
        0: RankFacts(coordinates={"dp": 0}, boot_id="a"),
        3: RankFacts(coordinates={"dp": 3}, boot_id="b", dropped=1500),
    }
    run = open_run(write_run(tmp_path / "run", {0: STEP, 3: STEP}, facts=facts, world_size=4))
    found = health(run)
    assert found == Health(
        missing=(1, 2),
        dropped={3: 1500},
        clock_bound_ns=None,
        out_of_order=0,
        problems=len(run.problems),
    )
    assert not found.is_good
    assert list(found.said())[:3] == [
        "ranks 1-2 missing",
        "1,500 events dropped on rank 3",
        "clocks not aligned",
    ]


def test_a_whole_recording_is_good() -> None:
    assert health(open_run(SAMPLES / "pp4-gpipe")).is_good
