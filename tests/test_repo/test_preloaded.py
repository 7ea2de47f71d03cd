"""What is forked from the preloaded interpreter finds itself as a fresh one does."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.launching import run_python, torchrun

_TELLS = """
import atexit, json, os, sys
from pathlib import Path
__main__ = sys.modules["__main__"]
told = {
    "argv": sys.argv, "path": sys.path[0], "cwd": os.getcwd(), "environment": dict(os.environ),
    "name": __name__, "file": __main__.__file__, "stdin": sys.stdin.read(),
}
out = Path(sys.argv[1])
out.mkdir(exist_ok=True)
atexit.register((out / os.environ.get("RANK", "0")).write_text, json.dumps(told))
"""
_EACH_ITS_OWN = ("MASTER_PORT", "TORCHELASTIC_RUN_ID")
_OF_THE_AGENT = {"TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_SIGNALS_TO_HANDLE"}


def _told(directory: Path, rank: int) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((directory / str(rank)).read_text())
    for name in _EACH_ITS_OWN:
        told["environment"].pop(name, None)
    told["argv"].remove(str(directory))
    return told


@pytest.mark.distributed
def test_ranks_are_told_what_torchrun_tells_them(tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(_TELLS)
    for fresh in (True, False):
        torchrun(2, "-m", "tells", tmp_path / str(fresh), "--a", cwd=tmp_path, fresh=fresh)

    for rank in (0, 1):
        expected, found = _told(tmp_path / "True", rank), _told(tmp_path / "False", rank)
        assert set(expected["environment"]) - set(found["environment"]) == _OF_THE_AGENT
        for name in _OF_THE_AGENT:
            del expected["environment"][name]
        assert found == expected


def test_a_process_is_told_what_it_is_given(tmp_path: Path) -> None:
    script = tmp_path / "tells.py"
    script.write_text(_TELLS)
    for preloaded in (True, False):
        arguments = (script, tmp_path / str(preloaded), "x")
        run_python(*arguments, cwd=tmp_path, env={"SAID": "y"}, preloaded=preloaded)

    assert _told(tmp_path / "True", 0) == _told(tmp_path / "False", 0)
    assert _told(tmp_path / "True", 0)["environment"]["SAID"] == "y"


def test_a_process_ends_as_it_does_alone() -> None:
    exits = "import sys; print('said'); sys.exit('why')"
    for preloaded in (True, False):
        done = run_python("-c", exits, expect=1, preloaded=preloaded)
        assert (done.stdout, done.stderr) == ("said\n", "why\n")
        run_python("-c", "import os; os.kill(os.getpid(), 9)", expect=-9, preloaded=preloaded)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_python("-c", "1 / 0", preloaded=True)


def test_a_rank_that_fails_ends_the_others(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text(
        "import os, sys, time\nfrom pathlib import Path\n"
        "pid = Path(sys.argv[1]) / 'pid'\n"
        "if os.environ['RANK'] == '0':\n"
        "    (pid.parent / 'written').write_text(str(os.getpid()))\n"
        "    (pid.parent / 'written').rename(pid)\n"
        "    time.sleep(200)\n"
        "while not pid.exists(): time.sleep(0.01)\n"
        "1 / 0\n"
    )
    done = torchrun(2, script, tmp_path, expect=1)

    assert "ZeroDivisionError" in done.stderr
    assert "rank 1 failed with exit code 1" in done.stderr
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
        pytest.fail("rank 0 still runs")
