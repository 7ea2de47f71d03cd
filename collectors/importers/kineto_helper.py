"""A second process that reads Kineto files: numpy and Arrow are called so often for so little that
two threads wait for Python's lock more than they gain.

A process with one thread is forked, which takes no time and shares all modules. One with threads
of its own (a notebook, the dashboard) starts a fresh interpreter: a fork would inherit locks that
nobody there gives back. A progress bar must not have a thread for its sake. `multiprocessing` would
run the user's script again.

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
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from collectors.importers.kineto_pieces import PieceReader
from collectors.importers.kineto_reading import KinetoFile, read_file

_CODE: Final = """
import sys
sys.path[:] = {path!r}
from collectors.importers.kineto_helper import serve
serve(0, 1)
"""
"""The parent's `sys.path` comes first: without it the working directory would."""

_DONE: Final = b"done"
_FAILED: Final = b"failed"
_ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1"}
"""Arrow's own allocator holds on to 20 MB more, and is not faster here; nobody multiplies. What the
user has set holds, as it does in a fork."""
_ENDS: Final = (signal.SIGINT, signal.SIGTERM)


_SILENT_S: Final = 120
"""A helper that says nothing for so long hangs: it reads 150 MB in a second, and says every two."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Child:
    """A process that was started: the ends of its pipes that are ours, and how to end it.

    Attributes:
        wait: for its end; returns the exit code, negative for a signal.
    """

    pid: int
    asked: int
    said: int
    kill: Callable[[], None]
    wait: Callable[[], int]


class Helper:
    """The parent's end; for one thread at a time. A helper that cannot be started, dies or hangs
    reads nothing, and whoever asked reads the file itself.
    """

    def __init__(self) -> None:
        self.child: Child | None = None
        self.ended: int | None = None
        self._rest = b""
        with contextlib.suppress(OSError):
            self.child = forked() if may_fork() else fresh()

    def read(self, path: Path, found: Path, advance: Callable[[int], None]) -> bool:
        """Have it read, and what it holds put into the file `found`, for `loaded`; whether that was
        done to the end.
        """
        if self.child is None:
            return False
        said, done = b"", 0
        with contextlib.suppress(OSError):
            os.write(self.child.asked, json.dumps([str(path), str(found)]).encode() + b"\n")
            while (said := self._line(self.child.said)).isdigit():
                done += int(said)
                advance(int(said))
        if said != _DONE:
            advance(-done)  # it is read anew
        if said not in (_DONE, _FAILED):
            self.stop()  # who says something else may answer the next question with this one's
        return said == _DONE

    def _line(self, said: int) -> bytes:
        """The next line; empty at the end, or if none comes."""
        while b"\n" not in self._rest:
            waiting = select.poll()
            waiting.register(said, select.POLLIN)
            more = os.read(said, 1 << 12) if waiting.poll(_SILENT_S * 1_000) else b""
            if not more:
                return b""
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.strip()

    def stop(self) -> None:
        """End the process, whatever it does: `read` returns soon, in another thread."""
        if self.child is not None:
            self.child.kill()

    def close(self) -> None:
        """End it; nobody reads."""
        if self.child is None or self.ended is not None:
            return
        self.child.kill()
        self.ended = self.child.wait()
        for end in (self.child.asked, self.child.said):
            os.close(end)


@contextlib.contextmanager
def _pipes() -> Iterator[tuple[int, int, int, int]]:
    """Two pipes for a process that the block starts: its ends, `asked` and `said`, which it has
    when the block is left, and ours, `ask` and `tell`, which are closed if that fails.
    """
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        asked, ask = os.pipe()
        theirs.callback(os.close, asked)
        ours.callback(os.close, ask)
        tell, said = os.pipe()
        theirs.callback(os.close, said)
        ours.callback(os.close, tell)
        yield asked, said, ask, tell
        ours.pop_all()


def forked() -> Child:
    """This process once more, which serves.

    Raises:
        OSError: there is no room for another one.
    """
    with _pipes() as (asked, said, ask, tell):
        pid = _fork(asked, said)
    kill, let_go = _killer(pid)

    def wait() -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:  # somebody ignores SIGCHLD, or has waited
            return -signal.SIGKILL
        finally:
            let_go()

    return Child(pid=pid, asked=ask, said=tell, kill=kill, wait=wait)


def _fork(asked: int, said: int) -> int:
    """The id of the process that serves. A signal in between would be handled there as here, by
    what this process has on its stack: it comes later.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        with warnings.catch_warnings():
            # Since 3.12 of any second thread; those of numpy and Arrow are made ready for a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _serve_and_leave(asked, said)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _killer(pid: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """How to kill a child, and what to do when that is no longer wanted: then it kills nobody.

    When a child has ended and somebody else has waited for it, or ignores SIGCHLD, another process
    may get its id. A descriptor stays that of the child; kernels before 5.3 have none.
    """
    held: int | None = None
    is_known = True
    try:
        held = os.pidfd_open(pid)
    except ProcessLookupError:  # it has ended
        is_known = False
    except (OSError, AttributeError):  # Python may be built for such a kernel
        pass

    def kill() -> None:
        with contextlib.suppress(OSError):
            if held is not None:
                signal.pidfd_send_signal(held, signal.SIGKILL)
            elif is_known:
                os.kill(pid, signal.SIGKILL)

    def let_go() -> None:
        nonlocal held, is_known
        is_known = False
        if held is not None:
            os.close(held)
            held = None

    return kill, let_go


def _serve_and_leave(asked: int, said: int) -> NoReturn:
    """What the fork does: nothing of what it inherited may be seen to happen twice."""
    try:
        gc.disable()  # looking through all modules would copy them
        os.setsid()  # Ctrl-C is for the parent, which ends this one
        for number in _ENDS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            if standard not in (asked, said):
                os.dup2(nowhere, standard)
        for end in map(int, os.listdir("/proc/self/fd")):
            if end > 2 and end not in (asked, said):
                with contextlib.suppress(OSError):
                    os.close(end)
        serve(asked, said)
    finally:
        os._exit(0)


def fresh() -> Child:
    """A new interpreter that serves.

    Raises:
        OSError: it cannot be started.
    """
    with _pipes() as (asked, said, ask, tell):
        process = subprocess.Popen(
            [sys.executable or "", "-c", _CODE.format(path=sys.path)],
            stdin=asked,
            stdout=said,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT | os.environ,
            start_new_session=True,
        )
    return Child(pid=process.pid, asked=ask, said=tell, kill=process.kill, wait=process.wait)


def may_fork() -> bool:
    """Whether a fork is safe: Linux, and no other thread of Python that could hold a lock."""
    return sys.platform == "linux" and threading.active_count() == 1


def put(held: KinetoFile, found: Path) -> None:
    """Put what a file holds there, for `loaded`.

    Raises:
        OSError: there is no room.
    """
    with found.open("wb") as file:
        pickle.dump(held, file, protocol=pickle.HIGHEST_PROTOCOL)


def loaded(found: Path) -> KinetoFile:
    """What was put there; the file is removed. This process or one that it started wrote it, where
    nobody else can.

    Raises:
        OSError, EOFError, UnpicklingError: somebody has removed it, or cut it off.
    """
    with found.open("rb") as file:
        held: KinetoFile = pickle.load(file)
    found.unlink(missing_ok=True)
    return held


def serve(asked: int, said: int) -> None:
    """Read the files that one pipe asks for, and tell the other, until nobody asks any more."""
    gc.freeze()  # modules do not become garbage: no need to look through them again and again
    reader = PieceReader()

    def say(what: bytes) -> None:
        os.write(said, what + b"\n")

    with contextlib.suppress(BrokenPipeError):
        for line in os.fdopen(asked, "rb"):
            path, found = map(Path, json.loads(line))
            try:
                held = read_file(path, reader, lambda done: say(b"%d" % done))
                put(held, found)
                del held
            except BrokenPipeError:
                raise
            except Exception:
                # The parent reads it again, and finds out what is wrong where the user sees it.
                say(_FAILED)
            else:
                say(_DONE)
