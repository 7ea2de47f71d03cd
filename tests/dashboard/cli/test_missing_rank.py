"""A run of which a rank is missing: every command says so, and none is surer than it can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dashboard import open_run
from dashboard.analysis.whole_run.findings import findings
from dashboard.cli.command_line import rankscope
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.schema import events_file

COMMANDS = ("critical-path", "whatif", "stragglers", "bandwidth", "memory")
FOLLOWING_THE_GRAPH = COMMANDS[:3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    run = write_pipeline(tmp_path / "run", steps=6)
    (run / events_file(2)).unlink()
    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_is_missing(command: str, path: Path) -> None:
    done = CliRunner().invoke(rankscope, [command, str(path)])
    assert done.exit_code == 0, done.output
    assert "rank-00002.arrows: missing" in done.stderr
    if command in FOLLOWING_THE_GRAPH:
        assert "the record of rank 2 is missing" in " ".join(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_json_stays_json(command: str, path: Path) -> None:
    done = CliRunner().invoke(rankscope, [command, str(path), "--json"])
    found = json.loads(done.stdout)
    if command in FOLLOWING_THE_GRAPH:
        assert "the record of rank 2 is missing" in found["notes"][0]


def test_findings_are_not_sure(path: Path) -> None:
    # Rank 1 waits for rank 2 from 31 to 53 and from 73 to 83: now that counts as its own.
    found = findings(open_run(path))
    assert found
    assert not {finding.confidence for finding in found} & {"high"}


def test_a_rank_that_is_cut_off_in_its_first_rows_is_no_loop_without_steps(path: Path) -> None:
    """Its training called t.step(): the file is what is to be brought again."""
    events = path / events_file(1)
    events.write_bytes(events.read_bytes()[:-1000])
    said = " ".join(CliRunner().invoke(rankscope, ["report", str(path)]).stdout.split())
    assert "rank-00001.arrows: cut off" in said
    assert "No step is complete on every rank: what could not be read is named above." in said
    assert "t.step()" not in said


def test_a_loop_without_steps_is_told_to_call_for_them_while_it_records(tmp_path: Path) -> None:
    """All that there is was read: that it did not end its trace is no reason for having no step."""
    events = {rank: [Event(start=0, duration=5, kind="forward")] for rank in (0, 1)}
    facts = {rank: RankFacts(coordinates={"dp": rank}, ended=None) for rank in (0, 1)}
    path = write_run(tmp_path / "run", events, facts=facts)
    said = " ".join(CliRunner().invoke(rankscope, ["report", str(path)]).stdout.split())
    assert "still recording" in said
    assert "No step is complete on every rank: call t.step() after each optimizer step." in said
