"""Clocks that are wrong by a known amount: what the exchange finds, against what was injected."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dashboard import open_run
from dashboard.run import Run
from tests.support.launching import SCRIPTS, run_python
from tests.support.skewed import clock_of
from tracer.schema import events_file
from tracer.streams import read_stream

SCRIPT = SCRIPTS / "train_with_a_skewed_clock.py"


@pytest.mark.parametrize(("ranks", "seconds"), [(4, 6), (8, 8)])
def test_offsets_and_drifts_are_recovered(tmp_path: Path, ranks: int, seconds: int) -> None:
    """Offsets of ± seconds and drifts of up to ± 50 ppm, while the ranks train on 2 processors.

    That no time is off by more than its bound holds for every recording. How small the errors are
    depends on when the machine lets a datagram be answered, so two recordings in three may have
    been made while something else held both processors.
    """
    for attempt in range(3):
        path = tmp_path / f"run-{attempt}"
        base = _record(path, ranks, seconds)
        run = open_run(path)
        errors = np.concatenate([_errors(run, base, rank) for rank in run.ranks[1:]])
        assert run.clock.method == "exchange between hosts"
        assert not run.problems
        assert run.clock.checked > 100
        assert run.clock.violations == 0
        if np.median(errors) < 10_000 and errors.max() < 50_000:
            return
    pytest.fail(f"median error {np.median(errors):,.0f} ns, worst {errors.max():,.0f} ns")


def test_a_rank_that_stalls_in_the_exchange_holds_up_nobody(tmp_path: Path) -> None:
    """The others find no comparison, and their clocks are then told by their collectives."""
    base = _record(tmp_path / "run", 3, 2, STALL="1")
    run = open_run(tmp_path / "run")
    for rank in run.ranks:
        _errors(run, base, rank)

    assert run.clock.method == "ends of collectives"
    assert all(facts.ended == "closed" for facts in run.facts.values())
    assert "no exchange between the clocks was recorded" in str(run.problems[0])


def _record(run: Path, ranks: int, seconds: int, **variables: str) -> int:
    """Returns the true time from which the drifts count."""
    base = time.monotonic_ns()
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks))
    variables["SKEW_BASE"] = str(base)
    run_python(*launch, SCRIPT, run, str(seconds), env=variables)
    return base


def _errors(run: Run, base: int, rank: int) -> npt.NDArray[np.float64]:
    """How far each of a rank's times is off on the common clock, which is rank 0's, in ns.

    None is off by more than the bound that is published for its instant.
    """
    raw = read_stream(run.path / events_file(rank), "events").table["start"].to_numpy()
    own, common = clock_of(rank, base), clock_of(0, base)
    truth = np.array([common.read(round(own.true(int(shown)))) for shown in raw])
    errors = np.abs(run.clock.maps[rank].to_common(raw) - truth).astype(np.float64)
    assert (errors <= run.clock.maps[rank].bound_at(raw) + 2).all()
    assert run.clock.bound_ns is not None
    assert errors.max() <= run.clock.bound_ns + 2
    return errors
