"""Hear of signals on a thread of ours, also while the training's own thread is stuck in C++.

Python runs a signal handler on the main thread, between two of its instructions: never, if that
thread waits for a collective. But the handler in C writes the number of the signal to a file
descriptor at once, if there is one (`signal.set_wakeup_fd`). That needs a Python handler to be
installed; where the user has one it stays, and where somebody else listens already we do not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import threading
import time
from types import FrameType
from typing import Final

WATCHED: Final = (signal.SIGUSR1, signal.SIGTERM)

PATIENCE_S: Final = 10.0
"""After SIGTERM the writer has so long to write; torchrun kills after 30 s."""


class Signals:
    """From `install` to `uninstall`, what signals came."""

    def __init__(self) -> None:
        self._ears: tuple[socket.socket, socket.socket] | None = None
        self._before: dict[int, object] = {}
        self._blocked: set[int] = set()

    def install(self) -> None:
        """Begin to listen; only the main thread may, and nothing happens on another."""
        if threading.current_thread() is not threading.main_thread():
            return
        spoken, heard = socket.socketpair()
        spoken.setblocking(False)
        heard.setblocking(False)
        before = signal.set_wakeup_fd(spoken.fileno(), warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
            spoken.close()
            heard.close()
            return
        self._ears = spoken, heard
        for number in WATCHED:
            if signal.getsignal(number) is signal.SIG_DFL:
                ours = _wait_for_the_end if number == signal.SIGTERM else _nothing
                self._before[number] = signal.signal(number, ours)

    def heard(self) -> list[int]:
        """The signals since the last time that we watch, in their order; for any thread."""
        if self._ears is None:
            return []
        with contextlib.suppress(BlockingIOError):
            return [number for number in self._ears[1].recv(4096) if number in WATCHED]
        return []

    def is_final(self, number: int) -> bool:
        """Whether the process would have ended by this signal without us."""
        return number == signal.SIGTERM and signal.getsignal(number) is _wait_for_the_end

    def abandon(self) -> None:
        """Nobody listens any more: SIGTERM ends the process again. From any thread.

        The others stay without effect: what was harmless so far must not end the training now.
        """
        if self.is_final(signal.SIGTERM):
            _set_default(signal.SIGTERM)

    def hold(self) -> None:
        """Let signals wait while this thread forks."""
        self._blocked = set(signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED))

    def let_go(self) -> None:
        """What waited comes now."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    def uninstall(self) -> None:
        """Put back what was there."""
        ears, self._ears = self._ears, None
        if ears is None:
            return
        with contextlib.suppress(ValueError):  # not on the main thread: they stay, and do nothing
            for number, before in self._before.items():
                if signal.getsignal(number) in _OURS:
                    signal.signal(number, before)  # type: ignore[arg-type]
            now = signal.set_wakeup_fd(-1)
            if now not in (-1, ears[0].fileno()):
                signal.set_wakeup_fd(now)
        self._before.clear()
        for ear in ears:
            ear.close()


def end_by(number: int) -> None:
    """End this process by the signal, as if nobody had listened; from any thread."""
    _set_default(number)
    os.kill(os.getpid(), number)


def _set_default(number: int) -> None:
    """Python lets only the main thread change what a signal does, and that one may be stuck."""
    ctypes.CDLL(None).signal(int(number), 0)  # 0 is SIG_DFL


def _nothing(number: int, frame: FrameType | None) -> None:
    """Installed so that C tells the descriptor; nothing is to be done on the main thread."""


def _wait_for_the_end(number: int, frame: FrameType | None) -> None:
    """The writer ends the process when it has written; if it does not, we do."""
    time.sleep(PATIENCE_S)
    end_by(number)


_OURS: Final = (_nothing, _wait_for_the_end)
