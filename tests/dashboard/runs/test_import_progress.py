"""The progress bar of an import."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from rich.console import Console

from collectors.importers import formats, kineto_helper
from collectors.importers.formats import Format, format_named
from dashboard.runs import foreign


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")
def test_it_is_drawn_without_a_thread_so_that_helpers_are_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = io.StringIO()
    before = set(threading.enumerate())
    drawn: list[str] = []

    def more_threads() -> int:
        return 1 + len(set(threading.enumerate()) - before)

    def imports(
        format: Format, files: Sequence[Path], out: Path, *, advance: Callable[[int], None]
    ) -> None:
        with patch.object(kineto_helper.threading, "active_count", more_threads):
            assert kineto_helper.may_fork()
        for _ in range(2):
            advance(25)
            drawn.append(terminal.getvalue())

    (tmp_path / "a.json").write_bytes(bytes(100))
    monkeypatch.setattr(formats, "import_files", imports)
    monkeypatch.setattr(foreign, "_DRAW_S", -1)
    console = Console(file=terminal, force_terminal=True, width=100)
    foreign.import_with_progress(
        format_named("kineto"), [tmp_path / "a.json"], tmp_path / "run", console=console
    )
    assert "25/100 bytes" in drawn[0]
    assert "50/100 bytes" not in drawn[0]
    assert "50/100 bytes" in drawn[1]
    assert "100/100 bytes" in terminal.getvalue()
