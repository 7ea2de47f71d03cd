"""The Communication page and `rankscope bandwidth` name a slow link of a written trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dashboard import open_run
from dashboard.cli.bandwidth import bandwidth
from dashboard.pages.communication import layout
from dashboard.pages.state import ViewState
from tests.support.toy import Event, RankFacts, write_run

MESSAGES = 12
SLOW = (1, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Each rank sends its next one 12 messages, 100 ns each, but 1 → 2 takes 400."""
    events = {rank: [Event(start=0, duration=20_000, kind="step")] for rank in range(4)}
    for source in range(3):
        pair = source, source + 1
        for number in range(MESSAGES):
            at, length = 1000 * number, 400 if pair == SLOW else 100
            common = {"group": "pp:0-3", "seq": number, "bytes": 1000, "step": 0}
            ends = ((source, "send", 0), (source + 1, "recv", length))
            for (rank, kind, duration), peer in zip(ends, reversed(pair), strict=True):
                events[rank].append(
                    Event(start=at, duration=duration, kind=kind, name=kind, peer=peer, **common)
                )
    group = {"pp:0-3": {"dim": "pp", "ranks": [0, 1, 2, 3]}}
    facts = {rank: RankFacts(coordinates={"pp": rank}, groups=group) for rank in events}
    return write_run(tmp_path / "run", events, facts=facts)


def test_the_page_names_the_slow_link(path: Path) -> None:
    page = layout([open_run(path)], ViewState()).to_plotly_json()
    shown = json.dumps(page, default=_plain, ensure_ascii=False)
    # 12 messages of 300 ns more, in one step.
    assert "pp p2p 1 → 2: 0.4 µs for 1,000 B, 4.0 × the 0.1 µs of its 2 peers" in shown
    assert "up to 0.0036 ms per step" in shown


def test_the_command_names_the_slow_link(path: Path) -> None:
    done = CliRunner().invoke(bandwidth, [str(path)])
    assert done.exit_code == 0, done.output
    assert "Slow link: pp p2p 1 → 2" in " ".join(done.output.split())


def _plain(value: object) -> object:
    found = getattr(value, "to_plotly_json", None)
    return found() if found else str(value)
