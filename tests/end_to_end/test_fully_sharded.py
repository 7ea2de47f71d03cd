"""FSDP2 without a pipeline: collectives and steps of a script that knows nothing of us."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.launching import SCRIPTS, record
from tests.support.reading import calls, facts, rows

pytestmark = pytest.mark.distributed

LAYER_BYTES = (8 * 8 + 8) * 4
"""A layer's weight and bias in float32."""


def test_each_layer_is_gathered_for_forward_and_backward_and_its_gradient_scattered(
    tmp_path: Path,
) -> None:
    """Per step: both layers gathered in forward, both again in backward (they were freed in
    between), and one reduce_scatter per layer, of the whole layer each time."""
    run = tmp_path / "run"
    record(run, SCRIPTS / "fully_sharded.py", [], processes=2)
    for rank in (0, 1):
        steps = rows(run, rank, kind="step")
        assert [row["step"] for row in steps] == [0, 1, 2]
        assert all(a["start"] + a["duration"] == b["start"] for a, b in pairwise(steps))
        assert facts(run, rank)["coordinates"] == {"dp": rank}
        for step in (0, 1, 2):
            seen = [
                (row["name"], row["group"], row["bytes"], row["dtype"])
                for row in calls(run, rank, step=step)
            ]
            assert sorted(seen) == sorted(
                [("all_gather", "dp:0-1", LAYER_BYTES, "float32")] * 4
                + [("reduce_scatter", "dp:0-1", LAYER_BYTES, "float32")] * 2
            )
