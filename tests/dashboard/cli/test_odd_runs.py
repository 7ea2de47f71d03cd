"""Runs that are valid as files and make little sense: an answer or one of our errors, no traceback.

Such runs come from half-finished collectors, killed ranks and other people's programs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.cli.command_line import rankscope
from tests.support.toy import Event, RankFacts, write_run
from tracer.errors import RankscopeError
from tracer.schema import COMMUNICATION_KINDS, KINDS

COMMANDS = {
    "report": (),
    "report as JSON": ("--json",),
    "critical-path": (),
    "whatif": (),
    "whatif as JSON": ("--no-stragglers", "--balance", "--json"),
    "stragglers": (),
    "stragglers as JSON": ("--json",),
    "check": (),
    "query": ("select * from collectives, accounting, steps, ranks, events limit 3",),
}
SCHEDULE = {
    "name": "Schedule1F1B",
    "stages": 2,
    "microbatches": 2,
    "virtual_stages": 1,
    "pipeline_size": 2,
    "plan": {"0": ["0F0"], "1": ["1F0", "nonsense"]},
}


@st.composite
def odd_events(draw: st.DrawFn) -> Event:
    def one_of(*values: Any) -> Any:
        return draw(st.sampled_from(values))

    kind = draw(st.one_of(st.sampled_from(KINDS), st.sampled_from(COMMUNICATION_KINDS)))
    return Event(
        start=draw(st.integers(0, 300)),
        duration=one_of(0, 1, 30, 100),
        kind=kind,
        name=kind if kind in ("send", "recv") else one_of("all_reduce", "barrier", "", "x"),
        lane=one_of("host:main", "host:main", "device:0", "neither"),
        step=one_of(0, 1, None),
        stage=one_of(0, 1, None),
        microbatch=one_of(0, 1, None),
        group=one_of(None, "tp:0-1", "pp:0-1", "", "noColon"),
        seq=one_of(0, 1, None),
        peer=one_of(0, 1, 7, None),
        bytes=one_of(None, 0, 100),
        correlation=one_of(None, 0, 1),
    )


def write_odd_run(path: Path, data: st.DataObject) -> Path:
    ranks = range(data.draw(st.integers(1, 3)))
    length = data.draw(st.sampled_from([0, 150]))
    facts = {
        rank: RankFacts(
            coordinates=data.draw(st.sampled_from([{}, {"pp": rank}])),
            stages=data.draw(st.sampled_from([(), (rank,)])),
            groups={"tp:0-1": {"dim": "tp", "ranks": [0, 1]}},
        )
        for rank in ranks
    }
    events = {
        rank: [
            *(Event(start=length * n, duration=length, kind="step", step=n) for n in range(2)),
            *data.draw(st.lists(odd_events(), min_size=1, max_size=12)),
        ]
        for rank in ranks
    }
    schedule = data.draw(st.sampled_from([None, SCHEDULE]))
    return write_run(path, events, facts=facts, schedule=schedule)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Every command on every run, since drawing a run takes as long as a command."""
    path = write_odd_run(tmp_path_factory.mktemp("odd") / "run", data)
    for command, options in COMMANDS.items():
        arguments = [command.split()[0], str(path), *options]
        failed = CliRunner().invoke(rankscope, arguments).exception
        if failed is not None and not isinstance(failed, (RankscopeError, SystemExit)):
            raise AssertionError(command) from failed
