"""Calibrate with real processes: every group and operation is timed, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.communication.links import links
from tests.support.launching import ROOT, environment, run_python
from tests.support.toy import Event, RankFacts, write_run
from tracer.calibration_file import OPS, read_calibration

pytestmark = pytest.mark.distributed

RANKSCOPE = str(Path(sys.executable).with_name("rankscope"))
QUICK = ("--low", "1024", "--high", "65536", "--seconds", "0.01")


def rankscope(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    return run_python(RANKSCOPE, *arguments, expect=expect)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The sample of two stages and two tensor ranks, calibrated here; and what was printed."""
    run = tmp_path_factory.mktemp("runs") / "pp2-tp2"
    shutil.copytree(ROOT / "sample_traces" / "pp2-tp2-1f1b", run)
    return run, rankscope("calibrate", run, *QUICK).stdout


def test_four_processes_measure_every_group_and_operation(four: tuple[Path, str]) -> None:
    run, printed = four
    found = read_calibration(run / "calibration.json")
    assert (found.world_size, found.backend, found.run_id) == (4, "gloo", open_run(run).meta.run_id)
    groups = ("pp:0,2", "pp:1,3", "tp:0-1", "tp:2-3")
    measured = {(p.group, p.op, p.bytes) for p in found.points}
    assert measured == {
        (g, op, s) for g in groups for op in OPS for s in (1024, 4096, 16384, 65536)
    }
    ends = {(p.group, p.src, p.dst) for p in found.points if p.op == "p2p"}
    assert ends == {("pp:0,2", 0, 2), ("pp:1,3", 1, 3), ("tp:0-1", 0, 1), ("tp:2-3", 2, 3)}
    # Nothing passes between two processes in a microsecond, and 64 kB take no second.
    assert all(1e3 < p.ns < 1e9 for p in found.points)
    assert "Largest bus bandwidth: pp " in printed
    assert "reduce_scatter" in printed


def test_what_was_measured_tells_peaks_and_lines(four: tuple[Path, str]) -> None:
    found = links(open_run(four[0]))
    assert {dim: peak.source for dim, peak in found.peaks.items()} == {
        "pp": "calibrated",
        "tp": "calibrated",
    }
    assert len(found.calibrated) == 4 * len(OPS)
    # The run itself has messages of one size: only the calibration tells latency from bandwidth.
    line = found.line("tp:0-1", "all_reduce")
    assert line in found.calibrated
    assert line.predict_ns(1 << 20) > 0
    shares = found.utilization["utilization"].to_pylist()
    assert shares
    assert all(share > 0 for share in shares)


def test_two_processes_of_another_host(tmp_path: Path) -> None:
    groups = {"dp:0-1": {"dim": "dp", "ranks": [0, 1]}}
    facts = {r: RankFacts(coordinates={"dp": r}, groups=groups, host="elsewhere") for r in (0, 1)}
    events = {r: [Event(start=0, duration=100, kind="step")] for r in (0, 1)}
    run = write_run(tmp_path / "run", events, facts=facts)
    done = rankscope("calibrate", run, *QUICK, "--out", tmp_path / "links.json", "--json")
    assert "recorded elsewhere" in done.stderr
    said = json.loads(done.stdout)
    assert {(line["group"], line["op"]) for line in said["lines"]} == {("dp:0-1", op) for op in OPS}
    assert said["peaks"]["dp"]["gbps"] > 0
    assert any("recorded on elsewhere" in note for note in said["notes"])
    assert not (run / "calibration.json").exists()
    found = rankscope("bandwidth", run, "--calibration", tmp_path / "links.json").stdout
    assert "as calibrated" in found


def test_a_run_of_several_hosts_is_started_on_each(tmp_path: Path) -> None:
    facts = {r: RankFacts(coordinates={"dp": r}, host=f"node{r}") for r in (0, 1)}
    events = {r: [Event(start=0, duration=100, kind="step")] for r in (0, 1)}
    run = write_run(tmp_path / "run", events, facts=facts)
    done = rankscope("calibrate", run, expect=2)
    assert "recorded on 2 hosts" in done.stderr
    assert "torchrun --nnodes 2" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--low", "9", "--high", "8"), "must be over 0, and less"), (("--backend", "nccl"), "GPU")],
)
def test_what_cannot_be_measured_says_why(arguments: tuple[str, ...], said: str) -> None:
    if "nccl" in arguments and _has_gpus():
        pytest.skip("there is a GPU for each process")
    done = rankscope("calibrate", ROOT / "sample_traces" / "pp2-tp2-1f1b", *arguments, expect=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_wrong_number_of_processes_is_named(tmp_path: Path) -> None:
    sample = ROOT / "sample_traces" / "pp2-tp2-1f1b"
    done = run_python("-m", "collectors.calibrate", sample, "--out", tmp_path / "c", expect=2)
    assert "1 processes, but" in done.stderr
    assert "start 4 of them" in done.stderr


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(tmp_path: Path, signal_: signal.Signals) -> None:
    out = tmp_path / "links.json"
    sample = ROOT / "sample_traces" / "pp2-tp2-1f1b"
    command = [sys.executable, RANKSCOPE, "calibrate", str(sample), "--out", str(out)]
    child = subprocess.Popen(
        [*command, "--seconds", "100"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not _processes_of(out, "collectors.calibrate"):
            assert child.poll() is None
            time.sleep(0.1)
        child.send_signal(signal_)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "interrupted, nothing was written" in said
    assert not out.exists()
    assert not _processes_of(out, "collectors.calibrate")


def _processes_of(out: Path, module: str) -> list[int]:
    """The processes whose command line names both."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if module in words and str(out) in words:
                found.append(int(entry.name))
    return found


def _has_gpus() -> bool:
    import torch

    return torch.cuda.is_available() and torch.cuda.device_count() >= 4
