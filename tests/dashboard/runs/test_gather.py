"""Directories of one run, each with some ranks, become one; and nothing is lost on the way."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from dashboard import open_run
from dashboard.cli.command_line import rankscope
from dashboard.cli.report import report_json
from dashboard.runs.gather import Gathered, gather, survey
from dashboard.runs.packed import pack, packed_file
from dashboard.runs.stores import Store, place_of, store_at
from tests.support.object_store import Endpoint
from tests.support.toy import Event, RankFacts, write_run
from tests.test_repo.markdown import ROOT
from tracer.errors import RankscopeError, TraceError, UsageError
from tracer.schema import events_file, facts_file
from tracer.streams import read_stream

SAMPLE = ROOT / "sample_traces" / "pp4-1f1b-balanced"


@pytest.fixture
def hosts(tmp_path: Path) -> list[Path]:
    """The sample as two hosts recorded it, two ranks each; `run.json` is where rank 0 ran."""
    found = []
    for number in range(2):
        host = tmp_path / f"host-{number}" / "run"
        host.mkdir(parents=True)
        for path in SAMPLE.iterdir():
            of_rank = path.name.removeprefix("rank-").partition(".")[0]
            if (int(of_rank) // 2 if of_rank.isdigit() else 0) == number:
                shutil.copy(path, host)
        found.append(host)
    return found


def _join(sources: list[Path], destination: str, *, packed: bool = False) -> Gathered:
    target = store_at(destination)
    return gather(survey([store_at(path) for path in sources], target), target, packed=packed)


def _content(directory: Path) -> Mapping[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.iterdir())
        if path.is_file()
    }


def test_the_directories_of_two_hosts_are_the_run(hosts: list[Path], tmp_path: Path) -> None:
    before = [_content(host) for host in hosts]
    found = _join(hosts, str(tmp_path / "run"))
    assert (found.ranks, found.missing, found.world_size) == ((0, 1, 2, 3), (), 4)
    assert _content(tmp_path / "run") == _content(SAMPLE)
    assert [_content(host) for host in hosts] == before


@pytest.mark.parametrize("packed", [False, True])
def test_each_host_brings_its_own_ranks(hosts: list[Path], s3: Endpoint, packed: bool) -> None:
    address = s3.address(f"each-{packed}")
    first = _join(hosts[1:], address, packed=packed)
    assert (first.ranks, first.missing, first.is_summed_up) == ((2, 3), (0, 1), False)
    second = _join(hosts[:1], address, packed=packed)
    assert (second.missing, second.is_summed_up) == ((), packed)
    assert _accounting(address) == _accounting(SAMPLE)
    s3.forget()
    again = _join(hosts, address, packed=packed)
    assert (again.copied, again.missing) == (0, ())
    assert not [request for request in s3.log if request.method in ("PUT", "DELETE")]


def _accounting(location: str | Path) -> object:
    return report_json(open_run(location), None)["accounting"]


def test_an_interrupted_gather_goes_on_where_it_was(
    hosts: list[Path], s3: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = s3.address("interrupted")
    broken = events_file(1).removesuffix(".arrows")
    monkeypatch.setattr(s3, "fail", lambda method, path: method != "GET" and broken in path)
    with pytest.raises(TraceError, match=rf"s3://traces/interrupted/{broken}"):
        _join(hosts, address, packed=True)
    arrived = store_at(address).names()
    assert arrived
    assert packed_file(1) not in arrived
    monkeypatch.setattr(s3, "fail", lambda method, path: False)
    found = _join(hosts, address, packed=True)
    assert found.missing == ()
    assert found.kept >= len(arrived)
    assert _accounting(address) == _accounting(SAMPLE)


def test_what_grew_is_brought_anew(hosts: list[Path], tmp_path: Path) -> None:
    source = hosts[0] / events_file(0)
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    _join(hosts, str(tmp_path / "run"))
    source.write_bytes(whole)
    assert _join(hosts, str(tmp_path / "run")).copied == 1
    assert _content(tmp_path / "run") == _content(SAMPLE)


def test_what_is_recorded_while_a_rank_is_packed_is_brought_later(
    hosts: list[Path], tmp_path: Path
) -> None:
    source = hosts[0] / events_file(0)
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    stream = read_stream(source, "events")
    source.write_bytes(whole)  # the rank went on after it was read
    target = store_at(str(tmp_path / "run"))
    with target.writing(packed_file(0)) as sink:
        pack(stream, sink)
    _join(hosts, str(tmp_path / "run"), packed=True)
    assert open_run(tmp_path / "run").event_count == open_run(SAMPLE).event_count


@pytest.mark.parametrize("packed", [False, True])
def test_events_are_no_older_than_what_says_how_far_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    """A rank ends its trace while it is gathered: as soon as any of its files has arrived."""
    source = tmp_path / "source"
    lasting = {0: [Event(start=0, duration=10, kind="step")]}
    write_run(source, lasting, facts={0: RankFacts(coordinates={}, ended=None)})
    plan = survey([store_at(source)], target := store_at(tmp_path / "run"))
    at_once = Store.writing

    @contextmanager
    def writing(store: Store, name: str) -> Iterator[pa.NativeFile]:
        with at_once(store, name) as sink:
            yield sink
        if store == target:
            lasting[0].append(Event(start=20, duration=10, kind="user"))
            write_run(source, lasting, facts={0: RankFacts(coordinates={})})

    monkeypatch.setattr(Store, "writing", writing)
    monkeypatch.setattr("dashboard.runs.gather._AT_ONCE", 1)
    gather(plan, target, packed=packed)
    run = open_run(tmp_path / "run")
    assert run.facts[0].ended is None or run.event_count > 1


@pytest.mark.parametrize("packed", [False, True])
def test_what_came_after_the_survey_is_brought_where_its_end_is(
    tmp_path: Path, packed: bool
) -> None:
    """All was brought before, and nothing is new when the sources are surveyed again; then the rank
    goes on and ends. Its facts say so, and so its events must be there too.
    """
    source, target = tmp_path / "source", store_at(tmp_path / "run")
    lasting = [Event(start=0, duration=10, kind="step")]
    write_run(source, {0: lasting}, facts={0: RankFacts(coordinates={}, ended=None)})
    _join([source], str(tmp_path / "run"), packed=packed)
    plan = survey([store_at(source)], target)
    lasting += [Event(start=20 * n, duration=10, kind="user") for n in range(1, 2_000)]
    write_run(source, {0: lasting}, facts={0: RankFacts(coordinates={})})

    told: list[int] = []
    gather(plan, target, packed=packed, advance=told.append)
    run = open_run(tmp_path / "run")
    assert (run.facts[0].ended, run.event_count) == ("closed", 2_000)
    assert sum(told) == plan.bytes


def test_a_rank_without_events_is_packed_as_such(tmp_path: Path) -> None:
    lasting = [Event(start=5, duration=10, kind="step")]
    source = write_run(tmp_path / "source", {0: lasting, 1: []})
    assert _join([source], str(tmp_path / "run"), packed=True).is_summed_up
    streams, packed = open_run(source), open_run(tmp_path / "run")
    assert packed.problems == streams.problems == ()
    assert (packed.ranks, packed.steps, packed.event_count) == ((0, 1), (), 1)
    assert packed.events(ranks=[1]).num_rows == 0
    assert packed.duration_ns == streams.duration_ns


def test_two_runs_are_not_mixed(hosts: list[Path], tmp_path: Path) -> None:
    other = write_run(
        tmp_path / "other", {1: [Event(start=0, duration=1, kind="user")]}, run_id="another"
    )
    with pytest.raises(TraceError, match=r"is of run .*only directories of one run"):
        _join([*hosts, other], str(tmp_path / "run"))
    _join([other], str(tmp_path / "taken"))
    with pytest.raises(TraceError, match="of run another"):
        _join(hosts, str(tmp_path / "taken"))
    assert events_file(0) not in _content(tmp_path / "taken")


def test_two_files_of_one_rank_are_not_chosen_between(hosts: list[Path], tmp_path: Path) -> None:
    shutil.copy(hosts[0] / events_file(0), hosts[1])
    assert _join(hosts, str(tmp_path / "same")).missing == ()
    shorter = (hosts[1] / events_file(0)).read_bytes()[:-8]
    (hosts[1] / events_file(0)).write_bytes(shorter)
    with pytest.raises(TraceError, match="two sources hold the same rank"):
        _join(hosts, str(tmp_path / "run"))


def test_places_that_make_no_sense(hosts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TraceError, match=r"no rank-00000\.arrows or other"):
        _join([tmp_path / "empty"], str(tmp_path / "run"))
    with pytest.raises(UsageError, match="is a source as well"):
        _join(hosts, str(hosts[0]))
    (tmp_path / "link").symlink_to(hosts[0])
    with pytest.raises(UsageError, match="is a source as well"):
        _join(hosts, str(tmp_path / "link"))
    _join(hosts, str(tmp_path / "streams"))
    with pytest.raises(UsageError, match="not packed: gather without --pack"):
        _join(hosts, str(tmp_path / "streams"), packed=True)


def test_one_place_however_its_address_is_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    options = ("endpoint_override=store:9000&scheme=http", "endpoint_override=http://STORE:9000/")
    same = {place_of(f"s3://key:secret@traces/run/?{said}&region=eu") for said in options}
    amazon = place_of("s3://traces/run")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    same.add(place_of("s3://traces/run"))
    assert len(same) == 1
    assert amazon not in same
    assert place_of("s3://traces/other") not in same


def test_a_damaged_stream_is_packed_as_far_as_it_is_good(hosts: list[Path], tmp_path: Path) -> None:
    path = hosts[0] / events_file(1)
    path.write_bytes(path.read_bytes()[:-4_000])
    _join(hosts, str(tmp_path / "streams"))
    _join(hosts, str(tmp_path / "packed"), packed=True)
    streams, packed = open_run(tmp_path / "streams"), open_run(tmp_path / "packed")
    assert packed.event_count == streams.event_count
    assert [p.message for p in packed.problems] == [p.message for p in streams.problems]


def test_the_command_says_what_is_missing(hosts: list[Path], tmp_path: Path) -> None:
    (hosts[1] / facts_file(3)).write_text('{"rank": 3, "run_id": "x", "ended": null}')
    done = CliRunner().invoke(rankscope, ["gather", str(hosts[1]), str(tmp_path / "a"), "--all"])
    assert done.exit_code == 1
    assert "missing: ranks 0-1" in done.output
    assert "how many ranks the run has is not known" in done.output
    assert "ranks 3 did not end their traces" in done.output
    done = CliRunner().invoke(rankscope, ["gather", str(hosts[0]), str(tmp_path / "a"), "--all"])
    assert done.exit_code == 0
    assert "4 of 4 ranks" in done.output
    lonely = CliRunner().invoke(rankscope, ["gather", str(hosts[0])])
    assert isinstance(lonely.exception, RankscopeError)
