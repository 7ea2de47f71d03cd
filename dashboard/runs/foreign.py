"""Open what another tool recorded: it is imported into the cache, and made anew when it changed."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dashboard.runs.caches import Fingerprint, fingerprint, places, replacing, writable_place
from tracer.errors import TraceError

if TYPE_CHECKING:
    from rich.console import Console

    from collectors.importers.formats import Format
    from collectors.importers.imported_run import Watch

_FOLDER: Final = "imported"
_FILE: Final = "imported.json"
_DRAW_S: Final = 0.1
"""The progress bar is drawn no more often."""


def imported(path: Path, watch: Watch) -> Path | None:
    """The run directory that was made of the foreign file or directory `path`: the one in the
    cache if that is of these files as they are now, else a new one, whose events `watch` sees as
    they are written. None if `path` is not foreign.

    Raises:
        TraceError: the files are damaged, of several formats, or the cache cannot be written.
    """
    kept = _kept(path)
    if kept is not None:
        return kept
    from collectors.importers.formats import VERSION, import_files, recognized
    from collectors.importers.imported_run import FAST

    found = recognized(path)
    if found is None:
        return None
    place = writable_place(path)
    if place is None:
        place = Path(tempfile.gettempdir()) / f"rankscope-{path.resolve().name}"
        raise TraceError(
            f"{path}: holds {found[0].title}, but no cache directory can be written to keep what "
            f"is imported; `rankscope import {found[0].name} {path} -o {place}` makes a run of it"
        )
    run, about = place / _FOLDER / path.resolve().name, place / _FILE
    known = {"version": VERSION, "format": found[0].name, "files": _fingerprint(path)}
    about.unlink(missing_ok=True)
    how: dict[str, Any] = {"overwrite": True, "watch": watch, "codec": FAST}
    if sys.stderr.isatty():
        from rich.console import Console

        import_with_progress(*found, run, console=Console(stderr=True), **how)
    else:
        import_files(*found, run, **how)
    with contextlib.suppress(OSError), replacing(about) as part:
        part.write_text(json.dumps(known), encoding="utf-8")
    return run


def _kept(path: Path) -> Path | None:
    """The run that was made of these files as they are now."""
    for place in places(path):
        run, said = place / _FOLDER / path.resolve().name, _said(place / _FILE)
        if said is not None and run.is_dir():
            from collectors.importers.formats import VERSION

            made_of = VERSION, _fingerprint(path)
            if isinstance(said, dict) and (said.get("version"), said.get("files")) == made_of:
                return run
    return None


def import_with_progress(
    format: Format, files: Sequence[Path], out: Path, *, console: Console, **how: Any
) -> None:
    """Import, with a progress bar that counts bytes of the files. It is drawn as they are read: a
    thread that did so would keep a process from forking its helpers (kineto_helper.py).
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from collectors.importers.formats import import_files

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, auto_refresh=False)
    with bar as progress:
        total = sum(path.stat().st_size for path in files)
        task = progress.add_task(
            f"{format.name}, {len(files)} file{'s' * (len(files) > 1)}", total=total
        )
        drawn = time.monotonic()

        def advance(done: int) -> None:
            nonlocal drawn
            is_due = time.monotonic() - drawn > _DRAW_S
            progress.update(task, advance=done, refresh=is_due)
            if is_due:
                drawn = time.monotonic()

        import_files(format, files, out, advance=advance, **how)
        progress.update(task, completed=total)


def _fingerprint(path: Path) -> Fingerprint:
    if path.is_dir():
        return fingerprint(path)
    facts = path.stat()
    return {path.name: [facts.st_size, facts.st_mtime_ns]}


def _said(about: Path) -> Any:
    try:
        return json.loads(about.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
