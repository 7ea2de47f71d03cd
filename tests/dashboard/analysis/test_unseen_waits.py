"""Backwards that wait for collectives of which only the issue is known, on paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.device_view import as_devices_ran
from dashboard.analysis.operations import operations
from dashboard.analysis.replay.critical_path import critical_path
from dashboard.analysis.replay.graph import dependency_graph
from dashboard.analysis.replay.whatif import replay_error
from dashboard.analysis.stragglers.stragglers import find_stragglers
from tests.support.data_parallel_toy import OPTIMIZER, SCALE, TRANSFER, write

SLOW = ((10, 10), (30, 10))


def test_the_last_collective_of_a_backward_is_waited_for_until_its_end(tmp_path: Path) -> None:
    """Rank 0 issues at 15 and 20, rank 1 at 35 and 40; both backwards end at 44."""
    run = open_run(write(tmp_path / "run", [SLOW]))
    found = operations(as_devices_ran(run)).to_pylist()
    seen = [(row["rank"], row["start"], row["wait_start"], row["wait_end"]) for row in found]
    at = [(0, 15, None, None), (0, 20, 20, 44), (1, 35, None, None), (1, 40, 40, 44)]
    assert seen == [(rank, *(t and t * SCALE for t in times)) for rank, *times in at]


def test_what_is_waited_for_within_a_layer_is_left_alone(tmp_path: Path) -> None:
    run = open_run(write(tmp_path / "run", [SLOW], dim="tp"))
    assert as_devices_ran(run) is run


def test_the_path_crosses_to_the_rank_that_issued_last(tmp_path: Path) -> None:
    """Rank 1: 30 forward, 10 backward; 4 of transfer, 2 of the optimizer."""
    run = open_run(write(tmp_path / "run", [SLOW] * 3))
    summary = critical_path(run).summary.to_pylist()
    spent = {(row["category"], row["name"], row["rank"]): row["ns_per_step"] for row in summary}
    assert spent.pop(("compute", "Model", 1)) == 30 * SCALE
    assert spent.pop(("compute", "", 1)) == 10 * SCALE
    assert sum(spent.values()) == (TRANSFER + OPTIMIZER) * SCALE
    assert {category for category, *_ in spent} == {"comm:dp", "optimizer"}


@settings(max_examples=10, deadline=None)
@given(
    slow=st.integers(0, 2),
    by=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    noise=st.lists(st.integers(0, 2), min_size=24, max_size=24),
)
def test_the_slow_rank_is_the_one_that_is_named_whatever_it_is_slow_in(
    tmp_path_factory: pytest.TempPathFactory, slow: int, by: tuple[int, int], noise: list[int]
) -> None:
    """All work 100 + 100, and 0 to 2 more; one rank more than that. Nobody else is ever named."""
    steps = [
        [
            (100 + noise[3 * step + rank] + by[0] * (rank == slow), 100 + by[1] * (rank == slow))
            for rank in range(3)
        ]
        for step in range(8)
    ]
    run = open_run(write(tmp_path_factory.mktemp("toy") / "run", steps))
    assert replay_error(dependency_graph(run)) == 0
    named = [found for found in find_stragglers(run).found if found.cause == "slow rank"]
    assert {found.rank for found in named} <= {slow}
    if sum(by) >= 12:  # 3 % of the work, and what scatters
        (found,) = named
        kinds = {"forward": by[0], "backward": by[1]}
        assert found.seen_in[0] in [kind for kind in kinds if kinds[kind] > 0]
