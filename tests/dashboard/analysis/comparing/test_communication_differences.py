"""What two runs communicated differently: on paper, by property, and in recorded runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import Run, open_run
from dashboard.analysis.comparing.calls_by_step import BYTES, CALLS, SIZED
from dashboard.analysis.comparing.communication_differences import (
    communicated,
    communication_differences,
)
from dashboard.analysis.comparing.questions import questions
from dashboard.analysis.sums_by_step import SumsByStep
from tests.support.toy import Event, RankFacts, write_run
from tests.test_repo.markdown import ROOT

MB = 1_000_000


def run_with(path: Path, calls: list[tuple[str, int | None]], *, steps: int = 2) -> Run:
    """Two ranks that issue these (operation, bytes) in each step, over dp; a send over pp."""
    rows = []
    for step in range(steps):
        rows.append(Event(start=100 * step, duration=100, kind="step", name="step", step=step))
        for place, (name, size) in enumerate(calls):
            common = {
                "start": 100 * step + place,
                "duration": 1,
                "step": step,
                "seq": step * len(calls) + place,
                "bytes": size,
                "correlation": step * len(calls) + place,
            }
            if name == "send":
                rows.append(Event(kind="send", name="send", group="pp:0-1", peer=1, **common))
            else:
                rows.append(Event(kind="collective", name=name, group="dp:0-1", **common))
    facts = {rank: RankFacts(coordinates={"dp": rank}) for rank in (0, 1)}
    return open_run(write_run(path, dict.fromkeys((0, 1), rows), facts=facts))


def per_step(run: Run, steps: Sequence[int]) -> dict[str, str]:
    sums = questions((run,))[run].sums
    return communicated(run.answer(sums, steps).calls, steps, len(run.ranks))


def said(a: Run, b: Run) -> list[str]:
    of_a, of_b = per_step(a, a.steps), per_step(b, b.steps)
    return [str(found) for found in communication_differences(of_a, of_b)]


def test_one_more_all_reduce_is_named_with_its_bytes(tmp_path: Path) -> None:
    """2 × 4 MB, and in B another 16; the sends are the same."""
    a = run_with(tmp_path / "a", [("all_reduce", 4 * MB), ("all_reduce", 4 * MB), ("send", MB)])
    more = [("all_reduce", 16 * MB), ("all_reduce", 4 * MB), ("all_reduce", 4 * MB), ("send", MB)]
    b = run_with(tmp_path / "b", more, steps=3)
    assert said(a, b) == [
        "dp all_reduce, per rank and step: 2 calls, 8 MB → 3 calls, 24 MB",
    ]
    assert str(a.compare(b).differences[-1]) == said(a, b)[0]


def test_what_one_run_lacks_and_what_has_no_size_is_said(tmp_path: Path) -> None:
    a = run_with(tmp_path / "a", [("all_reduce", None), ("send", MB)])
    b = run_with(tmp_path / "b", [("all_reduce", None), ("all_reduce", 5), ("all_gather", 2 * MB)])
    assert said(a, b) == [
        "dp all_gather, per rank and step: none → 1 calls, 2 MB",
        "dp all_reduce, per rank and step: 1 calls, of unknown size → 2 calls, of unknown size",
        "pp send, per rank and step: 1 calls, 1 MB → none",
    ]
    assert not {str(found) for found in a.compare(b, ()).differences} & set(said(a, b))


def test_calls_of_the_host_count_once_where_a_device_ran_them(tmp_path: Path) -> None:
    call = {"kind": "collective", "name": "all_reduce", "group": "dp:0-1", "bytes": 4 * MB}
    rows = [
        Event(start=0, duration=100, kind="step"),
        Event(start=10, duration=1, seq=0, correlation=0, **call),
        Event(start=12, duration=9, seq=0, correlation=0, lane="device:7", **call),
    ]
    facts = {rank: RankFacts(coordinates={"dp": rank}) for rank in (0, 1)}
    run = open_run(write_run(tmp_path / "a", dict.fromkeys((0, 1), rows), facts=facts))
    assert per_step(run, run.steps) == {"dp all_reduce": "1 calls, 4 MB"}


def test_bytes_of_many_ranks_and_steps_are_more_than_64_bits_hold() -> None:
    """560 GB of each of 1,024 ranks in each of 20,000 steps: 1.1e19, where int64 ends at 9.2e18."""
    steps = range(20_000)
    keys = [("dp all_gather", measure) for measure in (CALLS, SIZED, BYTES)]
    of_step = np.array([160 * 1024, 160 * 1024, 560_000 * MB * 1024])
    one = SumsByStep(
        steps=np.array(steps), keys=tuple(keys), values=np.repeat(of_step[:, None], len(steps), 1)
    )
    assert communicated(one, steps, 1024) == {"dp all_gather": "160 calls, 5.6e+05 MB"}


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(["all_reduce", "all_gather", "send"]), st.integers(1, 10**12)),
        max_size=5,
    ),
    other_steps=st.integers(1, 4),
)
def test_runs_of_the_same_calls_in_any_order_and_number_of_steps_do_not_differ(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, int | None]], other_steps: int
) -> None:
    path = tmp_path_factory.mktemp("runs")
    a = run_with(path / "a", calls)
    b = run_with(path / "b", calls[::-1], steps=other_steps)
    assert said(a, b) == []


def test_recorded_runs_differ_in_what_their_meshes_make_them_send() -> None:
    """Of pp 4, three of four ranks send 8 activations forward and three 8 gradients back: 12 per
    rank; of pp 2 × tp 2 all send 8, and tensor parallelism comes on top. In step 0, which is left
    out, stages tell each other their shapes.
    """
    balanced, slow, tensor = (
        open_run(ROOT / "sample_traces" / name)
        for name in ("pp4-1f1b-balanced", "pp4-1f1b-slow-stage", "pp2-tp2-1f1b")
    )
    assert said(balanced, slow) == []
    found = communication_differences(*(per_step(run, run.steps[1:]) for run in (balanced, tensor)))
    by_what = dict(str(line).split(", per rank and step: ") for line in found)
    assert by_what["pp send"].startswith("12 calls, ")
    assert " → 8 calls, " in by_what["pp send"]
    assert by_what["tp all_reduce"].startswith("none → ")
