"""A run that is still being recorded: opened anew whenever its files have grown.

While it grows, what is shown ends with each rank's last step: before that nothing is added any
more, so that an event stays where it is. Once nothing has come for a while (the job hangs, or was
killed), and when all ranks have closed their traces, everything is shown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final, Generic, TypeVar

from dashboard.runs.attempts import other_attempts
from dashboard.runs.open import open_recording
from dashboard.runs.recording import Recording
from tracer.errors import DamagedTrace, RankscopeError

AnyRecording = TypeVar("AnyRecording", bound=Recording)

WAITING: Final = "waiting"
LIVE: Final = "live"
QUIET: Final = "quiet"
ENDED: Final = "ended"

QUIET_AFTER_S: Final = 10.0
"""Traces are flushed every second by default."""
_LOOK_EVERY_S: Final = 0.25
_REST: Final = 4.0
"""Times as long as the last opening took: at most a fifth of one core's time goes into opening."""

_EVENTS_NAME: Final = re.compile(r"rank-[0-9]+\.arrows")
_Signature = tuple[tuple[str, int, int], ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class Status:
    """generation: how often what is shown has changed. state: waiting, live, quiet or ended.
    said: one line for the user: a restart, or why the files cannot be read just now.
    """

    generation: int = 0
    state: str = WAITING
    steps: int = 0
    last_step: int | None = None
    path: str = ""
    said: str = ""


class Follower(Generic[AnyRecording]):
    """Keeps the newest opening of the run at `path`, or of a later attempt of the same training.

    `look` opens the run if it has changed; `start` does so again and again on a thread of its
    own, and calls `changed` with each new opening.
    """

    def __init__(
        self,
        path: Path,
        make: type[AnyRecording],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._make = make
        self._clock = clock
        self._seen: _Signature = ()
        self._grew = clock()
        self._lock = Lock()
        self._status = Status(path=str(path))
        self._ending = Event()
        self._thread: Thread | None = None

    @property
    def status(self) -> Status:
        """What to tell the user."""
        with self._lock:
            return self._status

    def look(self) -> AnyRecording | None:
        """The run as it is now, if that differs from the last look; else None."""
        self._take_up_restart()
        found = _signature(self._path)
        now = self._clock()
        was = self.status.state
        if found != self._seen:
            self._seen, self._grew = found, now
            return self._open(whole=False)
        if was == LIVE and now - self._grew >= QUIET_AFTER_S:
            return self._open(whole=True)
        return None

    def start(self, changed: Callable[[AnyRecording], None]) -> None:
        """Look from now on, until `stop`."""
        self._thread = Thread(
            target=self._watch, args=(changed,), name="rankscope-follow", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, changed: Callable[[AnyRecording], None]) -> None:
        pause = _LOOK_EVERY_S
        while not self._ending.wait(pause):
            began = self._clock()
            fresh = self.look()
            if fresh is not None:
                changed(fresh)
            pause = max(_LOOK_EVERY_S, _REST * (self._clock() - began))

    def _open(self, *, whole: bool) -> AnyRecording | None:
        try:
            run = open_recording(self._path, self._make, whole_steps=not whole)
            ended = all(facts.ended is not None for facts in run.facts.values())
            if ended and not whole:
                run = open_recording(self._path, self._make)
        except DamagedTrace:
            self._say(said=f"{self._path}: no rank has written anything yet")
            return None
        except RankscopeError as error:
            self._say(said=str(error))
            return None
        state = ENDED if ended else QUIET if whole else LIVE
        if state != ENDED:
            run.problems = tuple(
                problem
                for problem in run.problems
                if problem.rank not in run.facts or run.facts[problem.rank].ended is not None
            )
        self._say(
            generation=self.status.generation + 1,
            state=state,
            steps=len(run.steps),
            last_step=run.steps[-1] if run.steps else None,
            said=self.status.said if "restarted" in self.status.said else "",
        )
        return run

    def _take_up_restart(self) -> None:
        """Go on to the newest attempt, if there is one after ours."""
        later = [path for path in other_attempts(self._path) if _number(path) > _number(self._path)]
        if later:
            self._path = later[-1]
            self._seen = ()
            self._say(path=str(self._path), said=f"restarted: this is {self._path.name}")

    def _say(self, **changes: object) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)  # type: ignore[arg-type]


def _signature(directory: Path) -> _Signature:
    """Name, size and time of change of the files of events and facts; empty where there are none.

    Counters grow as long as the process lives, also while the training hangs.
    """
    found = []
    try:
        for path in directory.iterdir():
            if path.suffix == ".json" or _EVENTS_NAME.fullmatch(path.name):
                facts = path.stat()
                found.append((path.name, facts.st_size, facts.st_mtime_ns))
    except OSError:  # no directory yet, or a file that is being replaced
        pass
    return tuple(sorted(found))


def _number(path: Path) -> int:
    """Of the attempt: `a` 0, `a.restart-2` 2."""
    number = path.resolve().name.rpartition(".restart-")[2]
    return int(number) if number.isdigit() else 0
