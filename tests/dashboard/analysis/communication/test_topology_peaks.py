"""Peaks of the hardware on paper: two hosts of two cards each, and what is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.communication.link_peaks import link_peaks
from dashboard.analysis.communication.links import links
from dashboard.analysis.communication.topology_peaks import topology_peaks
from dashboard.run import Run
from tests.dashboard.analysis.memory.test_memory import write_counters
from tests.support.toy import Event, RankFacts, write_run

HOST = {0: "a", 1: "a", 2: "b", 3: "b"}


def _run(path: Path, told: dict[int, dict[str, float]]) -> Run:
    """tp within hosts, dp between equal cards of them, `world` over all."""
    groups = {
        0: {"tp:0-1": ("tp", [0, 1]), "dp:0,2": ("dp", [0, 2])},
        1: {"tp:0-1": ("tp", [0, 1]), "dp:1,3": ("dp", [1, 3])},
        2: {"tp:2-3": ("tp", [2, 3]), "dp:0,2": ("dp", [0, 2])},
        3: {"tp:2-3": ("tp", [2, 3]), "dp:1,3": ("dp", [1, 3])},
    }
    facts = {
        rank: RankFacts(
            coordinates={},
            boot_id=HOST[rank],
            groups={
                name: {"dim": dim, "ranks": ranks}
                for name, (dim, ranks) in {**mine, "world:0-3": ("world", [0, 1, 2, 3])}.items()
            },
        )
        for rank, mine in groups.items()
    }
    events = {
        rank: [Event(start=0, duration=100, kind="step", name="step", step=0)] for rank in groups
    }
    write_run(path, events, facts=facts)
    for rank, speeds in told.items():
        write_counters(path, rank, [(50, name, value * 1e9) for name, value in speeds.items()])
    return open_run(path)


CARD = {"gpu0.nvlink_peak/bytes_per_s": 450.0, "gpu0.pcie_peak/bytes_per_s": 63.0}
NETWORK = {"network.peak/bytes_per_s": 50.0}


def test_within_a_host_and_between_hosts(tmp_path: Path) -> None:
    """Each rank has half of its host's 50 GB/s; all four together go round through both halves."""
    run = _run(tmp_path / "run", dict.fromkeys(HOST, CARD | NETWORK))
    assert topology_peaks(run) == {"tp": 450, "dp": 25, "world": 50}
    peaks = links(run).peaks
    assert {dim: (peak.gbps, peak.source) for dim, peak in peaks.items()} == {
        "tp": (450, "hardware"),
        "dp": (25, "hardware"),
        "world": (50, "hardware"),
    }


def test_the_slowest_counts_and_who_does_not_tell_leaves_it_open(tmp_path: Path) -> None:
    told = dict.fromkeys(HOST, CARD | NETWORK)
    told[3] = {"gpu0.pcie_peak/bytes_per_s": 32.0, "network.peak/bytes_per_s": 25.0}
    run = _run(tmp_path / "slow", told)
    # Card 3 has no NVLink: its group goes over PCIe, and that is the slowest group of tp.
    assert topology_peaks(run) == {"tp": 32, "dp": 12.5, "world": 25}
    del told[3]
    assert topology_peaks(_run(tmp_path / "silent", told)) == {}


def test_what_was_said_or_measured_comes_first() -> None:
    found = link_peaks({"tp": 400.0}, None, {"pp": 20.0}, {"tp": 450.0, "pp": 50.0, "dp": 25.0})
    assert {dim: (peak.gbps, peak.source) for dim, peak in found.items()} == {
        "tp": (400, "recorded"),
        "pp": (20, "given"),
        "dp": (25, "hardware"),
    }


@pytest.mark.parametrize("sample", ["pp2-tp2-1f1b", "pp4-gpipe"])
def test_recorded_runs_without_cards_have_none(sample: str) -> None:
    assert topology_peaks(open_run(Path("sample_traces") / sample)) == {}
