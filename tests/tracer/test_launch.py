"""`python -m tracer`: the script runs as it would alone, and its end is its own."""

from __future__ import annotations

import json
import pstats
from pathlib import Path

from tests.support.launching import run_python
from tests.support.reading import facts, meta, rows

_CURIOUS = """
import json, sys
import neighbour
seen = {"argv": sys.argv, "name": __name__, "file": __file__, "path": sys.path[0],
        "main": sys.modules["__main__"].__dict__ is globals(),
        "imports us": any(name in globals() for name in ("tracer", "Tracer"))}
print(json.dumps(seen))
sys.exit(3)
"""

_LAST = """
import atexit, os, sys, threading

class Held:
    def __del__(self, write=os.write, is_finalizing=sys.is_finalizing):
        write(1, b"dies while the interpreter ends: %s" % str(is_finalizing()).encode())

def is_main():
    return sys.modules["__main__"].__dict__ is globals()

def later():
    threading.main_thread().join()
    print("main in a thread:", is_main())

def last():
    print("main at exit:", is_main(), flush=True)

held = Held()
atexit.register(last)
threading.Thread(target=later).start()
print(sys.path[0], __file__, __spec__ and __spec__.name, __package__, type(__loader__), __name__)
print(sorted(globals()))
"""

_PLAIN_LOOP = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    for _ in range(2):
        watched = bool(torch.nn.modules.module._global_forward_pre_hooks)
        assert watched == (step < 3 or (step, _) == (3, 0))
        model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
raise RuntimeError("after the loop")
"""


def test_a_script_finds_everything_as_without_us(tmp_path: Path) -> None:
    directory = tmp_path / "scripts"
    directory.mkdir()
    script = directory / "curious.py"
    script.write_text(_CURIOUS)
    (directory / "neighbour.py").touch()
    arguments = (script, "--out", "theirs", "-m", "--help")
    alone = json.loads(run_python(*arguments, cwd=tmp_path, expect=3).stdout)
    traced = run_python("-m", "tracer", "--out", "run", *arguments, cwd=tmp_path, expect=3)

    assert json.loads(traced.stdout) == alone
    assert alone["argv"][1:] == ["--out", "theirs", "-m", "--help"]
    assert meta(tmp_path / "run")["config"] == {
        "script": "curious.py",
        "arguments": ["--out", "theirs", "-m", "--help"],
    }
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    assert traced.stderr == ""


def test_what_a_script_holds_lives_as_long_as_without_us(tmp_path: Path) -> None:
    """In a process group that dies earlier, torch has been seen to wait for itself for ever."""
    script, package = tmp_path / "last.py", tmp_path / "last"
    script.write_text(_LAST)
    package.mkdir()
    (package / "__main__.py").write_text(_LAST)
    tracer = ("-m", "tracer", "--overwrite", "--out", "run")
    for arguments in (("last.py",), ("last",), ("-m", "last")):
        alone = run_python(*arguments, cwd=tmp_path)
        traced = run_python(*tracer, *arguments, cwd=tmp_path)

        assert traced.stdout == alone.stdout
        assert alone.stdout.count("True") == 3
        assert traced.stderr == alone.stderr == ""


def test_a_profiler_around_us_goes_on_after_the_script(tmp_path: Path) -> None:
    script, profile = tmp_path / "train.py", tmp_path / "profile"
    script.write_text("import sys\nprint(sys.modules['__main__'].__dict__ is globals())\n1 / 0")
    command = ("-m", "cProfile", "-o", profile, "-m", "tracer", "--out", tmp_path / "run", script)
    done = run_python(*command, expect=1)

    assert done.stdout == "True\n"
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    assert any(name == "<module>" for _, _, name in pstats.Stats(str(profile)).stats)  # type: ignore[attr-defined]


def test_a_script_is_what_python_takes_for_one(tmp_path: Path) -> None:
    """Not an archive, whatever it holds; and behind a link what the system finds there."""
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "sub")
    (tmp_path / "train.py").write_text("print('the other one')")
    (tmp_path / "real" / "train.py").write_text(
        "import sys; print(sys.path[0], __file__, 'PK\\x05\\x06'); 'PK\5\6'"
    )
    for safe in ({}, {"PYTHONSAFEPATH": "1"}):
        alone = run_python("link/../train.py", cwd=tmp_path, env=safe)
        command = ("-m", "tracer", "--overwrite", "--out", "run", "link/../train.py")
        traced = run_python(*command, cwd=tmp_path, env=safe)

        assert traced.stdout == alone.stdout


def test_a_plain_loop_has_steps_and_its_exception_passes(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(_PLAIN_LOOP)
    command = ("-m", "tracer", "--out", tmp_path / "run", script)
    done = run_python(*command, expect=1, preloaded=True)
    steps = rows(tmp_path / "run", 0, kind="step")
    optimizers = rows(tmp_path / "run", 0, kind="optimizer")

    assert done.stderr.rstrip().endswith("RuntimeError: after the loop")
    assert "rankscope" not in done.stderr
    assert [row["step"] for row in steps] == [0, 1, 2, 3, 4]
    assert [(row["name"], row["step"]) for row in optimizers] == [
        ("SGD.step", step) for step in range(5)
    ]
    for kind, name in (("forward", "Sequential"), ("backward", "backward")):
        assert [(row["name"], row["step"]) for row in rows(tmp_path / "run", 0, kind=kind)] == [
            (name, step) for step in range(5) for _ in range(2)
        ]
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


def test_a_module_runs_like_with_python_m(tmp_path: Path) -> None:
    package = tmp_path / "training"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys; print(__name__, __package__, sys.argv[1:])")
    command = ("-m", "tracer", "--out", "run", "-m", "training", "--lr", "1")
    done = run_python(*command, cwd=tmp_path, preloaded=True)

    assert done.stdout == "__main__ training ['--lr', '1']\n"


def test_a_directory_that_holds_a_run_ends_with_one_line_and_exit_code_2(tmp_path: Path) -> None:
    script, run = tmp_path / "train.py", tmp_path / "run"
    script.write_text("print('trained')")
    run.mkdir()
    (run / "run.json").write_text("{}")
    command = ("-m", "tracer", "--out", run)
    refused = run_python(*command, script, expect=2, preloaded=True)

    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert "holds a run already" in refused.stderr
    assert "--overwrite" in refused.stderr
    done = run_python(*command, "--overwrite", script, preloaded=True)
    assert done.stdout == "trained\n"


def test_disabled_runs_the_script_and_writes_nothing(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("print('trained')")
    disabled = {"RANKSCOPE_DISABLE": "1"}
    command = ("-m", "tracer", "--out", tmp_path / "run", script)
    done = run_python(*command, env=disabled, preloaded=True)

    assert done.stdout == "trained\n"
    assert not (tmp_path / "run").exists()


def test_wrong_use_teaches(tmp_path: Path) -> None:
    no_script = run_python("-m", "tracer", "--out", tmp_path / "run", expect=2)
    no_such = run_python("-m", "tracer", "--out", tmp_path / "run", "absent.py", expect=2)
    help_ = run_python("-m", "tracer", "--help")

    assert "python -m tracer --out runs/a train.py" in no_script.stderr
    assert "no such script: absent.py" in no_such.stderr
    assert "torchrun --nproc-per-node 8 -m tracer --out runs/a train.py" in help_.stdout
    assert not (tmp_path / "run").exists()
