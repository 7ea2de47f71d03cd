"""The numbers of a run that grows, as Prometheus' own parser reads them."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from dashboard import Run, open_run
from dashboard.cli import metrics as command
from dashboard.cli.command_line import rankscope
from dashboard.metrics import numbers, prometheus
from dashboard.metrics.numbers import Keeper
from dashboard.runs.follow import Follower
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import write_counters
from tracer.errors import UsageError

Values = dict[tuple[str, ...], float]


def parsed(text: str) -> Values:
    """(name, label values in order of their names, without the run) → value."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            labels = [v for k, v in sorted(sample.labels.items()) if k != "run"]
            key = (sample.name, *labels)
            assert key not in found
            found[key] = sample.value
    return found


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def following(path: Path, clock: Clock) -> tuple[Follower[Run], Keeper]:
    follower = Follower(path, Run, clock=clock)
    return follower, Keeper("run", lambda: follower.status, clock)


def end(path: Path, ended: str | None) -> None:
    for facts in path.glob("rank-*.json"):
        said = json.loads(facts.read_text())
        facts.write_text(json.dumps(said | {"ended": ended}))


def test_a_closed_run_on_paper(tmp_path: Path) -> None:
    """Five steps of 130 µs, of which 60 are compute and 43 wait for messages on the mean."""
    run = open_run(write_pipeline(tmp_path / "run", steps=5))
    keeper = Keeper(run.name)
    keeper.update(run)
    found = parsed(prometheus.text([keeper]))
    us = 1e-6
    assert found["rankscope_step_time_seconds",] == pytest.approx(130 * us)
    assert found["rankscope_time_seconds", "compute"] == pytest.approx(60 * us)
    assert found["rankscope_all_steps_time_seconds_total", "compute"] == pytest.approx(300 * us)
    exposed = found["rankscope_all_steps_exposed_communication_seconds_total", "pp"]
    assert exposed == pytest.approx(5 * 43 * us)
    assert found["rankscope_busbw_bytes_per_second", "pp:0-2", "p2p"] == pytest.approx(4e9)
    assert found["rankscope_bubble_fraction_of_window", "pipeline"] == pytest.approx(192 / 372)
    assert found["rankscope_step_duration_seconds_bucket", "0.01"] == 5
    assert found["rankscope_step_duration_seconds_count",] == 5
    assert found["rankscope_step_duration_seconds_sum",] == pytest.approx(650 * us)
    assert found["rankscope_last_step",] == 4
    assert found["rankscope_state", "ended"] == 1
    assert found["rankscope_dropped_events_total", "1"] == 0
    assert found["rankscope_run_info", "pp=3", "toy", "Schedule1F1B"] == 1
    assert ("rankscope_last_step_age_seconds",) not in found, "nothing is to come"


def test_what_is_new_is_added_and_a_hang_is_seen(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "run"
    follower, keeper = following(path, clock)
    assert parsed(prometheus.text([keeper]))["rankscope_state", "waiting"] == 1
    for steps, total in ((2, 2), (2, 2), (5, 5)):
        write_pipeline(path, steps=steps)
        end(path, None)
        clock.now += 1
        if (run := follower.look()) is not None:
            keeper.update(run)
        found = parsed(prometheus.text([keeper]))
        assert found["rankscope_steps_total",] == total
        assert found["rankscope_step_duration_seconds_count",] == total
        assert found["rankscope_state", "live"] == 1
        compute = found["rankscope_all_steps_time_seconds_total", "compute"]
        assert compute == pytest.approx(total * 60e-6)
    clock.now += 60
    follower.look()
    found = parsed(prometheus.text([keeper]))
    assert found["rankscope_state", "quiet"] == 1
    assert found["rankscope_last_step_age_seconds",] == 60


def test_another_attempt_begins_anew(tmp_path: Path) -> None:
    clock = Clock()
    follower, keeper = following(tmp_path / "run", clock)
    write_pipeline(tmp_path / "run", steps=4)
    keeper.update(_seen(follower))
    write_pipeline(tmp_path / "run.restart-1", steps=1)
    again = _seen(follower)
    assert again.path.name == "run.restart-1"
    again.meta = replace(again.meta, run_id="the second")
    keeper.update(again)
    assert parsed(prometheus.text([keeper]))["rankscope_steps_total",] == 1


def _seen(follower: Follower[Run]) -> Run:
    run = follower.look()
    assert run is not None
    return run


def test_drops_are_told_while_it_records_and_counters_as_they_were_last(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "run")
    end(path, None)
    write_counters(path, 1, [(1, "recorder.dropped", 3.0), (9, "recorder.dropped", 7.0)])
    write_counters(path, 2, [(5, "power/W", 80.5), (1, "power/W", 1.0)])
    keeper = Keeper("run")
    keeper.update(open_run(path))
    found = parsed(prometheus.text([keeper]))
    assert found["rankscope_dropped_events_total", "1"] == 7
    assert found["rankscope_dropped_events_total", "2"] == 0
    assert found["rankscope_counter", "power/W", "2"] == 80.5


def test_runs_are_told_apart_and_text_is_escaped(tmp_path: Path) -> None:
    keepers = []
    for name, steps in (('odd "name"\n', 1), ("b", 2)):
        keeper = Keeper(name)
        keeper.update(open_run(write_pipeline(tmp_path / f"run{steps}", steps=steps)))
        keepers.append(keeper)
    families = text_string_to_metric_families(prometheus.text(keepers))
    steps_of = {
        sample.labels["run"]: sample.value for sample in _samples(families, "rankscope_steps_total")
    }
    assert steps_of == {'odd "name"\n': 1, "b": 2}


def _samples(families: Iterable, name: str) -> list:  # type: ignore[type-arg]
    return [sample for family in families for sample in family.samples if sample.name == name]


@pytest.mark.parametrize("token", [None, "secret"])
def test_who_may_ask(tmp_path: Path, token: str | None) -> None:
    keeper = Keeper("run")
    keeper.update(open_run(write_pipeline(tmp_path / "run")))
    client = prometheus.application([keeper], token).test_client()
    local = {"Host": "127.0.0.1:9464"}
    if token is None:
        assert client.get("/metrics", headers=local).status_code == 200
        assert client.get("/metrics", headers={"Host": "evil.example"}).status_code == 403
        assert client.get("/", headers=local).status_code == 200
    else:
        bearer = {"Authorization": "Bearer secret"}
        assert client.get("/metrics", headers=bearer).status_code == 200
        for wrong in ({}, {"Authorization": "Bearer secre"}, {"Authorization": "secret"}):
            assert client.get("/metrics", headers=local | wrong).status_code == 401
    reply = client.get("/metrics", headers=local | {"Authorization": "Bearer secret"})
    assert reply.content_type.startswith("text/plain; version=")
    assert not math.isnan(parsed(reply.text)["rankscope_step_time_seconds",])


def test_the_token_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(UsageError, match=r"token: cannot be read \(No such file"):
        command._token("0.0.0.0", file)
    for content, said in ((b" \n", "is empty"), (b"\xff", "is ASCII text, and this is not")):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=said):  # `Bearer` alone would let everybody in
            command._token("0.0.0.0", file)
    file.write_text("secret\n")
    assert command._token("0.0.0.0", file) == command._token("127.0.0.1", file) == "secret"
    assert command._token("127.0.0.1", None) is None
    assert len(command._token("::1", None) or "") > 20


def test_a_collector_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    path = str(write_pipeline(tmp_path / "run"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1/metrics"
        with pytest.raises(UsageError, match="could not be sent"):
            CliRunner().invoke(
                rankscope, ["metrics", path, "--otlp", address], catch_exceptions=False
            )


def test_what_an_opening_cannot_be_asked_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, keeper = open_run(write_pipeline(tmp_path / "run")), Keeper("run")
    with monkeypatch.context() as broken:
        broken.setattr(numbers, "step_metrics", lambda run, steps: 1 / 0)
        command._updated(keeper, run)
    assert "ZeroDivisionError" in capsys.readouterr().err
    command._updated(keeper, run)
    assert keeper.numbers.steps == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "0"], "it needs --follow"),
        (["--host", "0.0.0.0"], "--host is about answering scrapes; it needs --port"),
        (["--follow", "-o", "a.prom", "--host", "::1"], "--host .* needs --port"),
        (["--follow", "-o", "a.prom", "--token-file", "t"], "--token-file .* needs --port"),
        (["--follow"], "needs somebody to tell"),
        (["-o", "a.txt"], r"only files that end with \.prom"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: list[str], said: str) -> None:
    path = str(write_pipeline(tmp_path / "run"))
    with pytest.raises(UsageError, match=said):
        CliRunner().invoke(rankscope, ["metrics", path, *arguments], catch_exceptions=False)
