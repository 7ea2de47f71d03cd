"""What a fresh process loads before it answers: nothing that the answer has no use for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._kineto_files import write_kineto_files
from dashboard.cli.command_line import COMMANDS
from tests.support.launching import ROOT, run_python

SAMPLE = ROOT / "sample_traces" / "pp2-tp2-1f1b"
_HEAVY = {"pandas", "dash", "flask", "plotly", "duckdb", "torch"}
_TELL = "print(sorted(set(sys.modules) & set(sys.argv[1].split())))"


def loaded_by(code: str, *candidates: str) -> str:
    """Which of these modules a fresh process has loaded after `code`, as the last line it says."""
    done = run_python("-c", f"import sys\n{code}\n{_TELL}", " ".join(candidates))
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import tracer, dashboard.cli",
        f"from dashboard import open_run; open_run({str(SAMPLE)!r})",
        f"from dashboard import open_run; open_run({str(SAMPLE)!r}).temporal_breakdown()",
    ],
)
def test_reading_loads_nothing_heavy(code: str) -> None:
    unwanted = (*_HEAVY, "rich", "pyarrow.parquet", "pyarrow.fs", "tracer.session")
    assert loaded_by(code, *unwanted) == "[]"


def test_from_kineto_files_to_figures_without_pandas(tmp_path: Path) -> None:
    write_kineto_files(tmp_path / "traces", ranks=2, events=2_000)
    code = f"""
from dashboard import open_run
from dashboard.runs import open
open.MOST_AT_ONCE = 0  # as a large run is opened
run = open_run({str(tmp_path / "traces")!r})
assert run.clock.method == "ends of collectives" and run.clock.checked > 10
assert run.temporal_breakdown(run.steps[:-1]).ranks.num_rows == 2
"""
    assert loaded_by(code, *(_HEAVY - {"duckdb"})) == "[]"


@pytest.mark.parametrize("arguments", [["report", "--help"], ["report", str(SAMPLE)]])
def test_a_command_loads_neither_pandas_nor_figures(arguments: list[str]) -> None:
    code = f"""
arguments, sys.argv[1:] = sys.argv[1:], {arguments!r}
from dashboard.cli import main
try:
    main()
except SystemExit as ended:
    assert ended.code == 0
sys.argv[1:] = arguments
"""
    assert loaded_by(code, *_HEAVY, "dashboard.figures") == "[]"


def test_the_list_of_commands_loads_none_of_them() -> None:
    code = """
from click.testing import CliRunner
from dashboard.cli.command_line import rankscope
print(CliRunner().invoke(rankscope, ["--help"]).output)
print(sorted(name for name in sys.modules if name.startswith(("dashboard", "pyarrow"))))
"""
    said = run_python("-c", f"import sys\n{code}").stdout
    assert said.splitlines()[-1] == str(
        ["dashboard", "dashboard.cli", "dashboard.cli.command_line", "dashboard.cli.without_pandas"]
    )
    for name, (_, does) in COMMANDS.items():
        lines = [line for line in said.splitlines() if line.split()[:1] == [name]]
        assert [line.split(maxsplit=1)[1] for line in lines] == [does], "too long for its line"
