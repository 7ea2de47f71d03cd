"""Real processes that are slowed down on purpose: each cause is found, at the right place.

The amounts are large, so that a machine that is busy with other things does not hide them; what
smaller ones give, docs/measurements/stragglers.md says. A busy machine has slow steps of its own,
so only the causes that last are asked of the clean run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stragglers.cases import Case, all_cases
from benchmarks.stragglers.verdict import is_right
from dashboard import open_run
from dashboard.analysis.stragglers.stragglers import Stragglers, find_stragglers
from tests.support.launching import torchrun

pytestmark = pytest.mark.distributed

NAMES = (
    "pp4-slow_stage-50-at-2",
    "pp4-slow_steps-50-at-1",
    "pp4-slow_link-50-at-0-1",
    "pp2-tp2-slow_rank-50-at-1",
    "pp2-tp2-garbage_collection-50-at-0",
    "pp2-dp2-data_loading-50-at-0",
    "ddp4-slow_rank-50-at-2",
)
CLEAN = ("pp2-dp2-clean-0", "ddp4-clean-0")
LASTING = ("slow rank", "slow stage", "slow link")
CASES = {case.name: case for case in all_cases()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stragglers")
    _record(directory, *NAMES, *CLEAN)
    return directory


def _record(directory: Path, *names: str) -> None:
    # Fresh: the collection of garbage is timed, and must have all of it to look at.
    torchrun(4, "-m", "benchmarks.stragglers.training", directory, *names, fresh=True)


def _found(runs: Path, case: Case) -> Stragglers:
    return find_stragglers(open_run(runs / case.name))


@pytest.mark.parametrize("name", NAMES)
def test_what_was_injected_is_found_where_it_was(runs: Path, name: str) -> None:
    case = CASES[name]
    found = _found(runs, case)
    hits = [straggler for straggler in found.found if is_right(case, straggler)]
    assert len(hits) == 1, [straggler.text for straggler in found.found]
    assert found.replay_error == 0
    assert 0 < hits[0].ms_per_step * 1e6 < found.step_ns


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_run_has_no_lasting_straggler(runs: Path, tmp_path: Path, name: str) -> None:
    """A machine with other work may slow one rank for all of a recording, and then the next one is
    asked: what is wrong with the analysis names the same rank again.
    """
    lasting = _lasting(runs, name)
    if lasting:
        _record(tmp_path, name)
        lasting &= _lasting(tmp_path, name)
    assert lasting == set()


def _lasting(runs: Path, name: str) -> set[tuple[object, ...]]:
    return {
        (found.cause, found.rank, found.stage, found.src, found.group)
        for found in _found(runs, CASES[name]).found
        if found.cause in LASTING
    }


def test_the_matrix_is_as_large_as_promised() -> None:
    assert len(CASES) == len(list(all_cases()))
    clean = [case for case in CASES.values() if case.cause is None]
    assert len(clean) >= 10
    assert len(CASES) - len(clean) >= 40
