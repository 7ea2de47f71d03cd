"""import → export → import: a run that was exported as Chrome JSON and imported is the same run."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dashboard import Run, open_run
from dashboard.cli.command_line import rankscope
from dashboard.export.formats import export
from tests.dashboard.export.test_round_trips import RUNS
from tests.support.pipeline_toy import write_pipeline
from tests.support.read_back import in_order, rows_of
from tracer.errors import DamagedTrace, NewerFormat, RankscopeError, TraceError


def imported(source: Path, out: Path) -> Run:
    done = CliRunner().invoke(
        rankscope, ["import", "kineto", str(source), "-o", str(out)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return open_run(out)


def facts_of(run: Run) -> dict[str, Any]:
    """All but what tells two recordings apart."""
    meta = replace(run.meta, run_id="", source=None)
    same = {"run_id": "", "boot_id": "", "world_size": 0}
    return {
        "meta": meta,
        "facts": {rank: replace(facts, **same) for rank, facts in run.facts.items()},
        "steps": run.steps,
        "events": rows_of(run),
        "counters": in_order([row | {"value": repr(row["value"])} for row in counters(run)]),
    }


def counters(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = run.counters.to_pylist()
    return rows


@pytest.mark.parametrize("name", [name for name in RUNS if name != "no events"])
def test_the_same_run_comes_back(tmp_path: Path, name: str) -> None:
    run = open_run(RUNS[name](tmp_path / "run"))
    export(run, "chrome", tmp_path / "once.json.gz")
    once = imported(tmp_path / "once.json.gz", tmp_path / "once")
    assert facts_of(once) == facts_of(run)
    assert once.meta.source is not None
    assert once.problems == run.problems or name == "crossing events"
    export(once, "chrome", tmp_path / "twice.json")
    twice = imported(tmp_path / "twice.json", tmp_path / "twice")
    assert facts_of(twice) == facts_of(run)


def test_numbers_that_json_has_no_word_for_are_text_in_it(tmp_path: Path) -> None:
    """`run.json` may hold them: Python writes and reads NaN and Infinity."""
    write_pipeline(tmp_path / "run")
    run_json = tmp_path / "run" / "run.json"
    meta = json.loads(run_json.read_text())
    meta["config"] = {"clip": math.inf, "nested": {"loss": [math.nan, 1.5]}}
    run_json.write_text(json.dumps(meta))
    export(open_run(tmp_path / "run"), "chrome", tmp_path / "a.json")

    json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    again = imported(tmp_path / "a.json", tmp_path / "again")
    assert again.meta.config == {"clip": "Infinity", "nested": {"loss": ["NaN", 1.5]}}


def test_its_analyses_say_the_same(tmp_path: Path) -> None:
    run = open_run(RUNS["recorded"](tmp_path))
    export(run, "chrome", tmp_path / "a.json.gz")
    again = open_run(tmp_path / "a.json.gz")
    for ask in ("accounting", "bubbles", "bandwidth"):
        assert getattr(again, ask)().to_json() == getattr(run, ask)().to_json()


def test_of_a_run_without_events_there_is_nothing_to_import(tmp_path: Path) -> None:
    export(open_run(RUNS["no events"](tmp_path / "run")), "chrome", tmp_path / "a.json")
    with pytest.raises(TraceError, match="nothing to import"):
        imported(tmp_path / "a.json", tmp_path / "again")
    assert not (tmp_path / "again").exists()


Trace = dict[str, Any]


def spoil(key: str, value: object) -> Callable[[Trace], None]:
    def spoiled(trace: Trace) -> None:
        next(e for e in trace["traceEvents"] if e["ph"] == "X")[key] = value

    return spoiled


def newer(trace: Trace) -> None:
    trace["rankscope"]["format_version"] = 99


def no_world(trace: Trace) -> None:
    del trace["rankscope"]["run"]["world_size"]


HOSTILE: dict[str, tuple[Callable[[Trace], None], type[RankscopeError], str]] = {
    "a newer format": (newer, NewerFormat, "upgrade"),
    "facts that are missing": (no_world, DamagedTrace, "'world_size' is missing"),
    "no rank": (spoil("pid", -1), DamagedTrace, "pid -1 is no rank"),
    "a huge rank": (spoil("pid", 10**9), DamagedTrace, "is no rank"),
    "no time": (spoil("ts", "soon"), DamagedTrace, "ts 'soon' is no time"),
    "a negative length": (spoil("dur", -1), DamagedTrace, "dur -1 is no time"),
    "no kind": (spoil("cat", "magic"), DamagedTrace, "'magic' is no kind"),
    "a column of ours that is none": (spoil("args", {"x": 1}), DamagedTrace, "no such columns"),
    "a word for a number": (spoil("args", {"step": "x", "lane": "host:a"}), DamagedTrace, "rank 0"),
    "no lane": (spoil("args", {}), DamagedTrace, "lane"),
}


@pytest.mark.parametrize("case", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, case: Any) -> None:
    change, error, said = case
    export(open_run(RUNS["pipeline"](tmp_path / "run")), "chrome", tmp_path / "a.json")
    trace = json.loads((tmp_path / "a.json").read_text())
    change(trace)
    (tmp_path / "a.json").write_text(json.dumps(trace))
    with pytest.raises(error, match=said):
        imported(tmp_path / "a.json", tmp_path / "again")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "run"]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_half_a_file_is_refused(tmp_path: Path, share: float) -> None:
    export(open_run(RUNS["pipeline"](tmp_path / "run")), "chrome", tmp_path / "a.json")
    whole = (tmp_path / "a.json").read_bytes()
    for name, data in (("a.json", whole), ("a.json.gz", gzip.compress(whole))):
        (tmp_path / name).write_bytes(data[: round(share * len(data))])
        with pytest.raises(TraceError, match=r"a\.json"):
            imported(tmp_path / name, tmp_path / "again")
