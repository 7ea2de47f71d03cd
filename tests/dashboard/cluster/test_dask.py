"""A real scheduler and real workers give exactly the answers of one process, also when one dies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from dashboard import Run, open_run
from dashboard.cli.command_line import rankscope
from dashboard.cli.report import _TOGETHER, report_json
from dashboard.cluster import Dask, Elsewhere, places
from dashboard.runs.gather import gather, survey
from dashboard.runs.stores import store_at
from tests.support.dask_cluster import Cluster, dask_cluster
from tests.support.object_store import Endpoint
from tests.test_repo.markdown import ROOT
from tracer.errors import TraceError, UsageError

SAMPLE = ROOT / "sample_traces" / "pp2-tp2-1f1b"
WORKERS = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, s3_server: Endpoint) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("dask")
    environment = s3_server.environment | {"XDG_CACHE_HOME": str(directory / "cache")}
    with dask_cluster(directory, WORKERS, environment) as running:
        yield running


class Untouched(Mapping[int, pa.Table]):
    """The events of a run that nobody may read in this process."""

    def __getitem__(self, rank: int) -> pa.Table:
        raise AssertionError(f"the events of rank {rank} were read by the process that asks")

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def found_while(cluster: Cluster, happens: Callable[[], object]) -> tuple[Run, Any, int]:
    """A run, its report by the cluster, and how many tasks were done. `happens` is called when a
    third of them are known to be done.
    """
    done = 0

    def watch(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        def advance(count: int) -> None:
            nonlocal done
            done += count
            if done == total // 3:
                happens()

        return nullcontext(advance)

    run: Run = open_run(SAMPLE)
    run.tables = Untouched()
    run.elsewhere = Elsewhere(run, Dask(cluster.address), _TOGETHER, steps_per_task=4, watch=watch)
    return run, report_json(run, None), done


def test_a_worker_that_is_killed_loses_nothing(cluster: Cluster) -> None:
    run, found, done = found_while(cluster, cluster.kill_one)
    assert cluster.alive == WORKERS - 1
    assert found == report_json(open_run(SAMPLE), None)
    parts = len(run.ranks) * len(run.steps) // 4
    assert done > 3 * parts, "each part has a task, and its two results go on"


def test_what_a_worker_had_done_before_it_was_killed_is_done_again(cluster: Cluster) -> None:
    def kill_when_all_is_done() -> None:
        cluster.await_idle()
        cluster.kill_one()
        cluster.await_tidings()

    _, found, _ = found_while(cluster, kill_when_all_is_done)
    assert found == report_json(open_run(SAMPLE), None)


def test_what_the_scheduler_drops_is_handed_in_again(cluster: Cluster) -> None:
    _, found, _ = found_while(cluster, cluster.drop_tasks)
    assert found == report_json(open_run(SAMPLE), None)


def test_the_report_of_a_run_on_s3_by_a_cluster(cluster: Cluster, s3: Endpoint) -> None:
    store = store_at(s3.address("clustered"))
    gather(survey([store_at(SAMPLE)], store), store, packed=True)
    arguments = [s3.address("clustered"), "--scheduler", cluster.address, "--json"]
    done = CliRunner().invoke(rankscope, ["report", *arguments], catch_exceptions=False)
    found, expected = json.loads(done.stdout), report_json(open_run(SAMPLE), None)
    assert found.pop("run")["steps"] == expected.pop("run")["steps"]
    assert found == json.loads(json.dumps(expected))
    assert s3.sent("parquet") > 0


def test_workers_that_do_not_find_the_run_say_so(cluster: Cluster, tmp_path: Path) -> None:
    run = open_run(SAMPLE)
    (tmp_path / "elsewhere").mkdir()
    run.source = str(tmp_path / "elsewhere")
    run.elsewhere = Elsewhere(run, Dask(cluster.address), _TOGETHER)
    with pytest.raises(Exception, match="finds other files there"):
        run.accounting()


def test_no_scheduler_is_an_error_that_says_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, "_CONNECT_S", 0.2)
    with pytest.raises(UsageError, match=r"^tcp://127\.0\.0\.1:1: no Dask scheduler"):
        CliRunner().invoke(
            rankscope,
            ["report", str(SAMPLE), "--scheduler", "tcp://127.0.0.1:1"],
            catch_exceptions=False,
        )
    with pytest.raises(UsageError, match=r"^--scheduler host: missing port number"):
        CliRunner().invoke(
            rankscope, ["report", str(SAMPLE), "--scheduler", "host"], catch_exceptions=False
        )
    with pytest.raises(UsageError, match="exclude each other"):
        CliRunner().invoke(
            rankscope,
            ["report", str(SAMPLE), "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"],
            catch_exceptions=False,
        )


def test_a_scheduler_that_dies_is_one_line_and_soon(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """The last test of this file: nobody has the cluster after it."""
    died = 0.0

    def kill() -> None:
        nonlocal died
        cluster.kill_scheduler()
        died = time.monotonic()

    with pytest.raises(TraceError, match=rf"^{cluster.address}: the scheduler is gone"):
        found_while(cluster, kill)
    assert time.monotonic() - died < places._CONNECT_S, "it does not try for as long as at first"
    assert capfd.readouterr().err == ""
