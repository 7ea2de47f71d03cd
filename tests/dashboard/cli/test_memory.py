"""`rankscope memory`, and what `rankscope report` says of FLOPs and overlap."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dashboard.cli.memory import memory
from dashboard.cli.report import report
from tests.support.toy import Event, RankFacts, write_run


def _told(path: Path, **config: float) -> str:
    """A run of two steps of 1 ms on one rank: F0 F1 B0 B1, and tp hidden for 0.1 of 0.2 ms."""
    events: list[Event] = []
    for step in range(2):
        at = 1000 * step
        common = {"step": step, "stage": 0}
        events += [
            Event(start=at, duration=1000, kind="step", step=step),
            Event(start=at, duration=100, kind="forward", microbatch=0, **common),
            Event(start=at + 100, duration=100, kind="forward", microbatch=1, **common),
            Event(start=at + 200, duration=200, kind="backward", microbatch=0, **common),
            Event(start=at + 400, duration=200, kind="backward", microbatch=1, **common),
            Event(start=at + 500, duration=200, kind="collective", name="all_reduce",
                  group="tp:0", seq=step, step=step, lane="device:gloo"),
        ]  # fmt: skip
    facts = {
        0: RankFacts(coordinates={}, stages=(0,), groups={"tp:0": {"dim": "tp", "ranks": [0]}})
    }
    return str(write_run(path / "run", {0: events}, facts=facts, config=config, scale=1000))


def _said(done: Result) -> str:
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_memory_says_what_was_held_and_what_is_not_known(tmp_path: Path) -> None:
    said = _said(CliRunner().invoke(memory, [_told(tmp_path)]))
    assert "0 – – 2 –" in said
    assert "No memory was sampled in these steps" in said
    assert "Model FLOPs utilization: unknown; Tracer(…" in said


def test_of_many_ranks_the_most_of_all_and_the_furthest_are_printed(tmp_path: Path) -> None:
    """40 ranks without a pipeline hold one microbatch, the seventh two."""
    events = {}
    for rank in range(40):
        held = 2 if rank == 7 else 1
        events[rank] = [
            Event(start=0, duration=100, kind="step"),
            *(
                Event(start=at + 10 * n, duration=10, kind=kind, stage=0, microbatch=n)
                for at, kind in ((0, "forward"), (50, "backward"))
                for n in range(held)
            ),
        ]
    nowhere = {rank: RankFacts(coordinates={"dp": rank}) for rank in events}
    path = str(write_run(tmp_path / "run", events, facts=nowhere))
    said = _said(CliRunner().invoke(memory, [path]))
    assert "most of 40 – – 2 –" in said
    assert "rank 7 – – 2 –" in said
    assert "1 of 40 ranks: those furthest from the median of all" in said
    every = _said(CliRunner().invoke(memory, [path, "--all"]))
    assert "39 – – 1 –" in every
    assert "most of" not in every


def test_memory_as_json_of_some_steps(tmp_path: Path) -> None:
    path = _told(tmp_path, flops_per_step=3e9, peak_flops=6e12)
    done = CliRunner().invoke(memory, [path, "--json", "--step", "1:2"])
    found = json.loads(done.output)
    assert found["memory"]["ranks"][0]["peak_in_flight"] == 2
    assert [row["ts"] for row in found["memory"]["in_flight"]] == [
        1_000_000, 1_100_000, 1_400_000, 1_600_000,
    ]  # fmt: skip
    assert found["flops"]["mfu"] == pytest.approx(0.5)


def test_report_tells_overlap_and_flops(tmp_path: Path) -> None:
    path = _told(tmp_path, flops_per_step=3e9, peak_flops=6e12)
    said = _said(CliRunner().invoke(report, [path]))
    assert "tp 0.20 0.10 0.10 50.0 %" in said
    assert "Model FLOPs utilization: 50.0 %, 3 TFLOP/s per rank" in said
    found = json.loads(CliRunner().invoke(report, [path, "--json"]).output)
    assert found["flops"]["per_rank"] == pytest.approx(3e12)
    (tp,) = found["communication"]
    assert (tp["dim"], tp["exposed_ns"], tp["overlapped_ns"]) == ("tp", 100_000, 100_000)


def test_help_has_examples() -> None:
    said = _said(CliRunner().invoke(memory, ["--help"]))
    assert "rankscope memory runs/a --step 10:20" in said
