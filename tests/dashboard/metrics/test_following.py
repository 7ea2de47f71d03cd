"""`rankscope metrics --follow` beside a real training: scraped, pushed and written."""

from __future__ import annotations

import contextlib
import gzip
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from dashboard import open_run
from dashboard.analysis.whole_run.step_metrics import step_metrics
from tests.dashboard.metrics.test_numbers import Values, parsed
from tests.support.launching import ROOT, environment
from tests.support.toy import Event, write_run

pytest.importorskip("torch.distributed", reason="records a run")

PATIENCE_S = 120
STEPS = 40
STEP = Event(start=0, duration=100, kind="step", name="step")


@contextlib.contextmanager
def collector() -> Iterator[tuple[str, list[ExportMetricsServiceRequest]]]:
    """A collector on the loopback that keeps what it is sent."""
    received: list[ExportMetricsServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/metrics", received
    server.shutdown()
    thread.join()
    server.server_close()


def scraped(address: str) -> Values:
    with urllib.request.urlopen(address, timeout=PATIENCE_S) as reply:
        return parsed(reply.read().decode())


def until(address: str, wanted: Callable[[Values], bool]) -> Values:
    """The first scrape of which it holds."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if wanted(found := scraped(address)):
            return found
        time.sleep(0.2)
    raise AssertionError(f"not in {PATIENCE_S} s; at last: {found}")


def pushed(request: ExportMetricsServiceRequest) -> dict[tuple[str, ...], float]:
    """(name, unit, label values but the run's) → value."""
    found = {}
    for metric in (m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics):
        for point in (*metric.gauge.data_points, *metric.sum.data_points):
            labels = sorted((a.key, a.value.string_value) for a in point.attributes)
            key = (metric.name, metric.unit, *(v for k, v in labels if k != "run"))
            found[key] = point.as_double or float(point.as_int)
    return found


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended at the end, if it has not ended itself."""
    process = subprocess.Popen(
        [*command],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_a_training_is_followed_from_before_its_start_to_after_its_end(tmp_path: Path) -> None:
    path, file = tmp_path / "run", tmp_path / "rankscope.prom"
    with collector() as (endpoint, received), running(
        str(Path(sys.executable).with_name("rankscope")), "metrics", str(path), "--follow",
        "--port", "0", "--otlp", endpoint, "-o", str(file), "--every", "1",
    ) as follower:  # fmt: skip
        assert follower.stdout is not None
        address = follower.stdout.readline().split()[3]
        assert scraped(address)["rankscope_state", "waiting"] == 1
        with running(
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "tracer", "--out", str(path), str(ROOT / "examples" / "train_pipeline.py"),
            "--steps", str(STEPS), "--microbatches", "2", "--work-ms", "4",
        ) as training:  # fmt: skip
            live = until(address, lambda found: found["rankscope_steps_total",] > 2)
            assert live["rankscope_state", "waiting"] == 0
            before = live["rankscope_steps_total",]
            later = until(
                address, lambda found: before < found["rankscope_steps_total",] or before == STEPS
            )
            assert later["rankscope_bubble_fraction_of_window", "pipeline"] > 0
            assert training.wait(PATIENCE_S) == 0
        until(address, lambda found: found["rankscope_state", "ended"] == 1)
        ended = until(address, lambda found: found["rankscope_steps_total",] == STEPS)
        follower.send_signal(signal.SIGINT)
        out, _ = follower.communicate(timeout=PATIENCE_S)
        assert follower.returncode == 0
        assert out.endswith("Ended.\n")

    run = open_run(path)
    table = step_metrics(run, run.steps[-1:]).table
    said = {r["metric"]: r["value"] for r in table.to_pylist() if r["rank"] is None}
    assert ended["rankscope_step_time_seconds",] == pytest.approx(said["step_time_seconds"])
    assert ended["rankscope_step_duration_seconds_count",] == STEPS
    whole = run.accounting()
    compute = [r["duration"] for r in whole.table.to_pylist() if r["category"] == "compute"]
    total = ended["rankscope_all_steps_time_seconds_total", "compute"]
    assert total == pytest.approx(sum(compute) / len(run.ranks) / 1e9)

    last = pushed(received[-1])
    assert last["rankscope.step_time", "s"] == pytest.approx(said["step_time_seconds"])
    assert last["rankscope.steps", "1"] == STEPS
    assert last["rankscope.all_steps_time", "s", "compute"] == pytest.approx(total)
    assert last["rankscope.busbw", "By/s", "pp:0-1", "p2p"] > 0
    assert ("rankscope_last_step",) in parsed(file.read_text())


def test_a_supervisor_ends_it_and_the_last_numbers_are_told(tmp_path: Path) -> None:
    file = tmp_path / "rankscope.prom"
    with collector() as (endpoint, received), running(
        str(Path(sys.executable).with_name("rankscope")), "metrics", str(tmp_path / "run"),
        "--follow", "--port", "0", "--otlp", endpoint, "-o", str(file), "--every", "3600",
    ) as follower:  # fmt: skip
        assert follower.stdout is not None
        address = follower.stdout.readline().split()[3]
        write_run(tmp_path / "run", {0: [STEP]})
        until(address, lambda found: found["rankscope_steps_total",] == 1)
        follower.terminate()
        out, _ = follower.communicate(timeout=PATIENCE_S)

    assert follower.returncode == 0
    assert out.endswith("Ended.\n")
    assert parsed(file.read_text())["rankscope_steps_total",] == 1
    assert pushed(received[-1])["rankscope.steps", "1"] == 1
