"""A second process that reads Kineto files: numpy and Arrow are called so often for so little that
two threads wait for Python's lock more than they gain.

It is a fresh interpreter and no fork, since the process that imports may have threads of its own
(a notebook, the dashboard), and not `multiprocessing`, which would run the user's script again.

    parent  →  a line of JSON: the file, and where to put what it holds
    helper  →  lines: bytes read, any number of times; then `done`, or `failed`

What a file holds is put on disk, pickled, so that it takes no memory while it waits for its turn.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from collectors.importers.kineto_pieces import PieceReader
from collectors.importers.kineto_reading import KinetoFile, read_file

_CODE: Final = """
import sys
sys.path[:] = {path!r}
from collectors.importers.kineto_helper import serve
serve()
"""
"""The parent's `sys.path` comes first: without it the working directory would."""

_DONE: Final = b"done"
_FAILED: Final = b"failed"
_ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1"}
"""Arrow's own allocator holds on to 20 MB more, and is not faster here; nobody multiplies."""


class Helper:
    """The parent's end; for one thread at a time. A helper that cannot be started, or dies, reads
    nothing, and whoever asked reads the file itself.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        code = _CODE.format(path=sys.path)
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable or "", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the parent, which ends this one
            )

    def read(self, path: Path, found: Path, advance: Callable[[int], None]) -> bool:
        """Have it read, and what it holds put into the file `found`, for `loaded`; whether that was
        done to the end.
        """
        process, done = self._process, 0
        if process is None or process.stdin is None or process.stdout is None:
            return False
        said = b""
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps([str(path), str(found)]).encode() + b"\n")
            process.stdin.flush()
            while (said := process.stdout.readline().strip()).isdigit():
                done += int(said)
                advance(int(said))
        if said != _DONE:
            advance(-done)  # it is read anew
        if said not in (_DONE, _FAILED):
            self.stop()  # who says something else may answer the next question with this one's
        return said == _DONE

    def stop(self) -> None:
        """End the process, whatever it does: `read` returns soon, in another thread."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End it; nobody reads."""
        self.stop()
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.communicate()


def loaded(found: Path) -> KinetoFile:
    """What a helper has put there; the file is removed. A process that this one started wrote it,
    where nobody else can.
    """
    with found.open("rb") as file:
        held: KinetoFile = pickle.load(file)
    found.unlink()
    return held


def serve() -> None:
    """Read files until nobody asks any more."""
    gc.freeze()  # modules do not become garbage: no need to look through them again and again
    reader, out = PieceReader(), sys.stdout.buffer

    def say(what: bytes) -> None:
        out.write(what + b"\n")
        out.flush()

    with contextlib.suppress(BrokenPipeError):
        for asked in sys.stdin.buffer:
            path, found = map(Path, json.loads(asked))
            try:
                held = read_file(path, reader, lambda done: say(b"%d" % done))
                with found.open("wb") as file:
                    pickle.dump(held, file, protocol=pickle.HIGHEST_PROTOCOL)
                del held
            except BrokenPipeError:
                raise
            except Exception:
                # The parent reads it again, and finds out what is wrong where the user sees it.
                say(_FAILED)
            else:
                say(_DONE)
