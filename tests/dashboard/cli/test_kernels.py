"""`rankscope kernels`: figures of the toy trace, which are worked out on paper."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from dashboard.cli.kernels import kernels
from tests.support.kineto_toy import two_ranks
from tests.support.toy import Event, write_run


def test_the_toy_on_paper(tmp_path: Path) -> None:
    """Each rank, in each of two steps: gemm 10-30 and 40-60, all_reduce 25-45, a copy 60-62, adam
    70-80. From 10 to 180 µs: compute 100, idle 2 × 8 and the 30 between the steps, else 24.
    """
    done = CliRunner().invoke(kernels, [str(two_ranks(tmp_path / "traces"))])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "0 0.17 0.05 27.1% 0.10 58.8% 0.02 14.1% 0.04 50.0 %" in said
    assert "void gemm<float> compute 8 0.16" in said

    done = CliRunner().invoke(kernels, [str(tmp_path / "traces"), "--json", "--step", "4"])
    (first, second) = json.loads(done.output)["temporal_breakdown"]["ranks"]
    assert (first["kernel_time_ns"], first["idle_ns"]) == (70_000, 8_000)
    assert (second["rank"], second["compute_ns"], second["overlapped_ns"]) == (1, 50_000, 10_000)


def test_a_run_without_kernels_says_how_to_get_them(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", {0: [Event(start=0, duration=9, kind="step")]})
    done = CliRunner().invoke(kernels, [str(path)])
    assert done.exit_code == 0
    assert "No device kernels in these steps: import a trace of a GPU" in done.output
