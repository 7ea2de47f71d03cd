"""Processes that a recorded training starts: they neither record nor touch its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.launching import run_python
from tests.support.reading import facts, rows

FILES = ["rank-00000.arrows", "rank-00000.counters.arrows", "rank-00000.json", "run.json"]
LENGTH = 6

_LOADING = """
import os, sys
import torch
from torch.utils.data import DataLoader, Dataset
from tracer import Kind, Tracer

class Items(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        import tracer.session
        assert tracer.session._current is None
        return torch.tensor([index, os.getpid()])

def main(make_tracer):
    loader = DataLoader(
        Items(),
        num_workers=2 if sys.argv[1] == "fork" else 1,  # what is not forked imports torch anew
        multiprocessing_context=sys.argv[1],
        persistent_workers=True,
    )
    with make_tracer() as t:
        for epoch in range(2):
            batches = t_enumerate(t, loader)
            assert sorted(int(batch[0, 0]) for batch in batches) == list(range(6))
            assert all(int(batch[0, 1]) != os.getpid() for batch in batches)
            t.step()
    again = list(loader)  # by the same workers, which outlive the tracer
    assert len(again) == 6
    print("trained")

def t_enumerate(t, loader):
    with t.span("load", kind=Kind.DATA):
        return list(loader)
"""

_IN_THE_SCRIPT = (
    _LOADING
    + """
if __name__ == "__main__":
    main(lambda: Tracer(sys.argv[2]))
"""
)

_AT_MODULE_LEVEL = (
    _LOADING
    + """
t = Tracer(overwrite=sys.argv[2:] == ["overwrite"])
if __name__ == "__main__":
    main(lambda: t)
"""
)

_PLAIN = """
import sys
import torch
from torch.utils.data import DataLoader, Dataset

class Items(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return torch.full((4,), float(index))

def together(items):
    return torch.stack(items)

if __name__ == "__main__":
    loader = DataLoader(
        Items(),
        num_workers=2 if sys.argv[1] == "fork" else 1,
        multiprocessing_context=sys.argv[1],
        collate_fn=together,
    )
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in loader:
        model(batch).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    print("trained")
"""


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_loading_workers_under_a_tracer(tmp_path: Path, start: str) -> None:
    script, run = tmp_path / "train.py", tmp_path / "run"
    script.write_text(_IN_THE_SCRIPT)
    done = run_python(script, start, run, preloaded=True)

    assert (done.stdout, done.stderr) == ("trained\n", "")
    _assert_recorded_by_one_process(run)


_FORKED_AT_A_BAD_TIME = """
import os, sys, threading
from tracer import Tracer

held = threading.Event()

def hold(locks):
    for lock in locks:
        lock.acquire()
    held.set()
    threading.Event().wait()

with Tracer(sys.argv[1], collectors=[]) as t:
    recorder = t.recorder
    locks = [recorder.names.lock, recorder.lanes.lock, recorder.device_lock]
    threading.Thread(target=hold, args=(locks,), daemon=True).start()
    held.wait()
    child = os.fork()
    if child == 0:
        with t.span("a name that is new"), recorder.device_lock:
            recorder.lanes.intern("new as well")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print("trained", flush=True)
    os._exit(0)  # the writer would wait for the locks
"""


def test_a_lock_that_was_held_at_the_fork_does_not_hold_the_child(tmp_path: Path) -> None:
    done = run_python("-c", _FORKED_AT_A_BAD_TIME, tmp_path / "run")
    assert (done.stdout, done.stderr) == ("trained\n", "")


@pytest.mark.parametrize(("start", "overwrite"), [("spawn", False), ("forkserver", True)])
def test_a_tracer_at_module_level_is_none_in_the_workers(
    tmp_path: Path, start: str, overwrite: bool
) -> None:
    """Spawned workers run the module level again: there `Tracer()` is made a second time."""
    script, run = tmp_path / "train.py", tmp_path / "run"
    script.write_text(_AT_MODULE_LEVEL)
    arguments = ["overwrite"] if overwrite else []
    place = {"RANKSCOPE_DIR": str(run)}
    done = run_python(script, start, *arguments, env=place, preloaded=True)

    assert (done.stdout, done.stderr) == ("trained\n", "")
    _assert_recorded_by_one_process(run)


@pytest.mark.parametrize(
    ("start", "as_module"), [("fork", False), ("spawn", False), ("spawn", True)]
)
def test_loading_workers_of_a_script_that_knows_nothing_of_us(
    tmp_path: Path, start: str, as_module: bool
) -> None:
    run = tmp_path / "run"
    (tmp_path / "train.py").write_text(_PLAIN)
    script = ["-m", "train"] if as_module else ["train.py"]
    command = ("-m", "tracer", "--out", run, *script, start)
    done = run_python(*command, cwd=tmp_path, preloaded=True)

    assert (done.stdout, done.stderr) == ("trained\n", "")
    assert len(rows(run, 0, kind="step")) == LENGTH
    assert sorted(path.name for path in run.iterdir()) == FILES
    assert facts(run, 0)["ended"] == "closed"


def _assert_recorded_by_one_process(run: Path) -> None:
    assert [(row["kind"], row["step"]) for row in rows(run, 0) if row["kind"] != "user"] == [
        ("step", 0),
        ("data", 0),
        ("step", 1),
        ("data", 1),
    ]
    assert {row["lane"] for row in rows(run, 0)} == {"host:main"}
    assert sorted(path.name for path in run.iterdir()) == FILES
    assert facts(run, 0)["ended"] == "closed"
