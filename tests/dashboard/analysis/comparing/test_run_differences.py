"""What two runs were told to do differently, in words that can be read."""

from __future__ import annotations

from pathlib import Path

from dashboard import open_run
from dashboard.analysis.comparing.run_differences import run_differences
from tests.support.toy import write_run


def test_of_a_nested_configuration_the_leaves_that_differ_are_named(tmp_path: Path) -> None:
    before = {"lr": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.95]}, "hosts": ["a"] * 150}
    after = {"lr": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.99]}, "hosts": ["b"] * 150}
    a, b = (
        open_run(write_run(tmp_path / name, {0: []}, config=config, run_id=name))
        for name, config in (("a", before), ("b", after | {"clip": {"norm": 1.0}}))
    )
    found = [str(difference) for difference in run_differences(a, b)]
    assert found == [
        "config clip.norm: (not set) → 1.0",
        f"config hosts: {'a ' * 99}a… → {'b ' * 99}b…",
        "config optimizer.betas: 0.9 0.95 → 0.9 0.99",
    ]
    assert run_differences(a, a) == ()
