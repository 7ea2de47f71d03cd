"""Import many damaged files of other tools in a process of its own, as child.py uses damaged runs.

    python -m tests.fuzz.foreign nsys --examples 200

Each either becomes a run that can be read, or is refused by an error of ours that names the file.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import pickle
import shutil
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from collectors.importers.formats import format_named, import_files, recognized
from dashboard import open_run
from dashboard.analysis.communication.bandwidth import measure_bandwidth
from dashboard.analysis.time_spent.accounting import account
from dashboard.analysis.whole_run.integrity import violations
from tests.collectors.importers.test_flight_recorder import nccl_entry
from tests.collectors.importers.test_nccl import message, record
from tests.collectors.importers.test_nsys import two_ranks
from tests.fuzz.child import limit_resources, within_time
from tests.fuzz.damage import Damaged, Files, damaged_bytes, damaged_json
from tests.fuzz.using import check_message
from tracer.errors import RankscopeError

_HOSTILE: Final = st.sampled_from(
    [
        *(None, -1, 0, 1, (1 << 63) - 1, -(1 << 63), 1.5, float("inf"), b"\0", b"\xff" * 100),
        *("", "x\x1b[31m", "NCCL", "ncclAllReduce", "forward", "PP:0F999999", "step 99999999999"),
        "w" * 100_000,
    ]
)


def main() -> None:
    """Import as many examples as asked; the first that fails is shrunk and raised."""
    parser = argparse.ArgumentParser()
    parser.add_argument("formats", choices=sorted(FORMATS), nargs="+")
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args()
    limit_resources()
    faulthandler.enable()
    for format in asked.formats:
        with tempfile.TemporaryDirectory() as name:
            outcomes = _import_damaged(format, Path(name), asked)
        print(f"{format}: {outcomes.total()} examples, {dict(outcomes)}")


def _import_damaged(format: str, folder: Path, asked: argparse.Namespace) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    damage = FORMATS[format](folder)

    @settings(
        max_examples=asked.examples,
        derandomize=asked.seed is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged=damage)
    def use(damaged: Damaged) -> None:
        path = damaged.write(folder / "damaged")
        try:
            with within_time(repr(damaged)):
                outcomes[_import(format, path, folder / "run")] += 1
        finally:
            shutil.rmtree(path)

    (use if asked.seed is None else seeded(asked.seed)(use))()
    return outcomes


def _import(format: str, path: Path, out: Path) -> str:
    files = sorted(path.iterdir())
    for file in files:
        recognized(file)
    try:
        import_files(format_named(format), files, out, overwrite=True)
    except RankscopeError as error:
        check_message(str(error), path)
        return "refused"
    run = open_run(out)
    violations(run)
    measure_bandwidth(run)
    account(run)
    return "imported"


def _flight_recorder(folder: Path) -> st.SearchStrategy[Damaged]:
    def dump(rank: int) -> dict[str, Any]:
        message_ = nccl_entry(2, "send 0->1" if rank == 0 else "recv 1<-0", p2p_seq_id=1)
        frames = [{"name": "step", "filename": "train.py", "line": 3}]
        return {
            "version": "2.10",
            "pg_config": {"0": {"name": "0", "desc": "mesh_dp", "ranks": "[0, 1]"}},
            "comm_lib_version": "2.27.5",
            "entries": [
                nccl_entry(0, duration_ms=1.5, time_discovered_completed_ns=1_790_000_000 * 10**9),
                nccl_entry(1, state="started", frames=frames),
                message_,
            ],
        }

    texts = {f"dump_{rank}.json": json.dumps(dump(rank)).encode() for rank in (0, 1)}
    pickles = {f"dump_{rank}": pickle.dumps(dump(rank), protocol=2) for rank in (0, 1)}
    return st.one_of(
        damaged_json(texts),
        damaged_bytes(texts),
        damaged_bytes(pickles),
        damaged_json(texts).map(_pickled),
    )


def _pickled(damaged: Damaged) -> Damaged:
    """The same odd values in a pickle, as far as JSON could be read."""
    files: Files = {}
    for name, content in damaged.files.items():
        try:
            files[name.removesuffix(".json")] = pickle.dumps(json.loads(content), protocol=2)
        except (ValueError, RecursionError):
            files[name] = content
    return Damaged(files, damaged.said)


def _nccl(folder: Path) -> st.SearchStrategy[Damaged]:
    times = {
        "coll_start_ts": 5_000,
        "kernel_events": [{"channel_id": 0, "kernel_start_ts": 5_001, "kernel_stop_ts": 5_010}],
    }
    single = {
        "a.json": record(0, 0, 5),
        "b.json": record(1, 0, 6, event_trace_ts=times),
        "c.json": message(1, "Recv", 1, 0, 3),
        "d.json": record(0, 1, 5) | {"dump_stats": {"coll_dropped_total": 1}},
    }
    lines = {name: json.dumps(line).encode() + b"\n" for name, line in single.items()}
    return st.one_of(damaged_json(lines), damaged_bytes({"a.log": b"".join(lines.values())}))


def _nsys(folder: Path) -> st.SearchStrategy[Damaged]:
    (folder / "made").mkdir()
    content = two_ranks(folder / "made").read_bytes()
    return st.one_of(damaged_bytes({"a.sqlite": content}), _hostile_rows(content))


@st.composite
def _hostile_rows(draw: st.DrawFn, content: bytes) -> Damaged:
    """A whole database with odd values in some columns, or without a column."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
    said = []
    for _ in range(draw(st.integers(1, 4))):
        table = draw(st.sampled_from(sorted(tables)))
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column = draw(st.sampled_from(columns))
        try:
            if draw(st.integers(0, 5)) == 0:
                connection.execute(f'ALTER TABLE {table} DROP COLUMN "{column}"')
                said.append(f"{table}.{column} dropped")
                continue
            value, every = draw(_HOSTILE), draw(st.integers(1, 3))
            connection.execute(
                f'UPDATE OR IGNORE {table} SET "{column}" = ? WHERE rowid % {every} = 0', (value,)
            )
            said.append(f"{table}.{column} = {value!r:.40} in every {every}.")
        except sqlite3.Error:
            continue  # a constraint forbids it
    connection.commit()
    changed = connection.serialize()
    connection.close()
    return Damaged({"a.sqlite": changed}, tuple(said))


FORMATS: Final = {"flight-recorder": _flight_recorder, "nccl": _nccl, "nsys": _nsys}


if __name__ == "__main__":
    main()
