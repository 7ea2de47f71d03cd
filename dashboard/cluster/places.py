"""Where tasks are done: in this process, in several of this machine, or on a Dask cluster.

All give the same results. A task whose worker is lost is done again by another.
"""

from __future__ import annotations

import logging
import multiprocessing
import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dashboard.cluster.shelf import Shelf
from dashboard.cluster.slack import give_back
from dashboard.cluster.tasks import Ready, Tasks, users
from tracer.errors import RankscopeError, TraceError, UsageError
from tracer.text import plain_text

Advance = Callable[[int], object]
"""Is told of tasks that are done."""

_RETRIES: Final = 3
"""How often processes are started anew in place of lost ones, before something else is wrong."""
_CONNECT_S: Final = 10
_AGAIN_S: Final = 5
"""A connection that broke is there again soon, or its scheduler is gone."""
_WORKERS_S: Final = 60


class Place(Protocol):
    """Does tasks."""

    def do(self, tasks: Tasks, wanted: Collection[str], advance: Advance) -> dict[str, Any]:
        """The results of the `wanted` tasks; what is needed on the way is dropped when it is used.

        Raises:
            RankscopeError: as a task raised it, or workers cannot be reached or were lost.
        """


class _Work:
    """Tasks under way, and the results that others still need."""

    def __init__(self, tasks: Tasks, wanted: Collection[str], results: Shelf) -> None:
        self.tasks = tasks
        self.done: set[str] = set()
        self._wanted = frozenset(wanted)
        self._results = results
        self._left = users(tasks)
        self._picks: dict[str, list[str]] = defaultdict(list)
        for name, task in tasks.items():
            if task.picks:
                self._picks[task.needs[0]].append(name)

    def waiting(self) -> list[str]:
        """The tasks that are not done, in order; without those that pick."""
        return [n for n, task in self.tasks.items() if n not in self.done and not task.picks]

    def needed(self, name: str) -> list[Any]:
        """The results that it needs."""
        return [self._results[need] for need in self.tasks[name].needs]

    def wanted(self) -> dict[str, Any]:
        """The results that were asked for."""
        return {name: self._results[name] for name in self._wanted}

    def keep(self, name: str, result: Any) -> int:
        """A task is done: what others pick out of its result is done with it. How many that are."""
        picks = self._picks[name]
        for pick in picks:
            self._results[pick] = self.tasks[pick](result)
        self._left[name] -= len(picks)
        if self._left[name] or name in self._wanted:
            self._results[name] = result
        self.done.update((name, *picks))
        for need in self.tasks[name].needs:
            self._left[need] -= 1
            if not self._left[need] and need not in self._wanted:
                del self._results[need]
        return 1 + len(picks)


@dataclass(frozen=True)
class InProcess:
    """One task after the other, here."""

    def do(self, tasks: Tasks, wanted: Collection[str], advance: Advance) -> dict[str, Any]:
        """See `Place`."""
        with Shelf() as results:
            work = _Work(tasks, wanted, results)
            for name in work.waiting():
                advance(work.keep(name, tasks[name](*work.needed(name))))
                give_back()
            return work.wanted()


@dataclass(frozen=True)
class Processes:
    """Several processes of this machine. One that is lost (killed for its memory, say) takes its
    task along, which is done again.
    """

    count: int

    def do(self, tasks: Tasks, wanted: Collection[str], advance: Advance) -> dict[str, Any]:
        """See `Place`."""
        with Shelf() as results:
            work = _Work(tasks, wanted, results)
            for attempt in range(_RETRIES + 1):
                try:
                    for name, result in self._completed(work):
                        advance(work.keep(name, result))
                    return work.wanted()
                except BrokenProcessPool:
                    if attempt == _RETRIES:
                        break
        raise TraceError(
            f"a process was lost {_RETRIES + 1} times, last after {len(work.done)} of {len(tasks)} "
            "tasks: is there memory for as many as --workers says? --steps-per-task makes tasks "
            "smaller"
        )

    def _completed(self, work: _Work) -> Iterator[tuple[str, Any]]:
        """Each task that was not done before, as it is done."""
        fresh = multiprocessing.get_context("spawn")  # a fork of Arrow's threads may hang
        before = set(multiprocessing.active_children())
        with ProcessPoolExecutor(self.count, mp_context=fresh) as pool:
            running: dict[Future[Any], str] = {}
            ready = Ready(work.tasks, work.done)
            try:
                while running or ready:
                    while ready and len(running) < 2 * self.count:
                        name = ready.pop()
                        running[pool.submit(work.tasks[name], *work.needed(name))] = name
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        name = running.pop(future)
                        yield name, future.result()
                        ready.completed(name)
            except BrokenProcessPool:
                # The pool does not always end all that are left, and then waits for them for ever.
                for process in set(multiprocessing.active_children()) - before:
                    process.kill()
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Dask:
    """The workers of a Dask scheduler: `tcp://host:8786`.

    A scheduler does again what a lost worker did. Should it drop tasks, or be started anew, all are
    handed in again.
    """

    address: str

    def do(self, tasks: Tasks, wanted: Collection[str], advance: Advance) -> dict[str, Any]:
        """See `Place`."""
        done: set[str] = set()
        for attempt in range(_RETRIES + 1):
            try:
                return self._once(tasks, wanted, advance, done, again=attempt > 0)
            except _Dropped as error:
                reason = str(error)
        raise TraceError(
            f"{self.address}: the scheduler has dropped tasks {_RETRIES + 1} times, last after "
            f"{len(done)} of {len(tasks)}: {reason}; what does its log say?"
        )

    def _once(
        self,
        tasks: Tasks,
        wanted: Collection[str],
        advance: Advance,
        done: set[str],
        *,
        again: bool,
    ) -> dict[str, Any]:
        """The results; adds to `done` what is done for the first time.

        Raises:
            _Dropped: the scheduler does not do some of them.
        """
        with _client(self.address, again=again) as client:
            from distributed import as_completed

            start = f"rankscope-{secrets.token_hex(4)}-"
            graph = {
                start + name: (task, *(start + need for need in task.needs))
                for name, task in tasks.items()
            }
            futures = dict(zip(tasks, client.get(graph, list(graph), sync=False), strict=True))
            kept = {name: futures[name] for name in wanted}
            coming = as_completed(list(futures.values()), loop=client.loop)
            futures.clear()  # the scheduler drops what nobody needs any more
            for future in coming:
                status = future.status  # which may be another one a moment later
                if status in ("lost", "pending"):  # done, and then its worker was lost
                    coming.add(future)
                    continue
                if status != "finished":
                    _fail(self.address, future)
                name = future.key.removeprefix(start)
                if name not in done:
                    done.add(name)
                    advance(1)
                del future
            return {name: _result(self.address, future) for name, future in kept.items()}


class _Dropped(Exception):
    """A scheduler does not do a task; the message says why."""


@contextmanager
def _client(address: str, *, again: bool) -> Iterator[Any]:
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
        from distributed.utils import silence_logging_cmgr
    except ImportError as error:
        raise UsageError("--scheduler needs Dask: pip install 'rankscope[cluster]'") from error
    try:
        get_address_host_port(address)  # a client that finds it wrong complains again at the exit
    except ValueError as error:
        raise UsageError(
            f"--scheduler {address}: {_line(error)}; write tcp://HOST:8786 as `dask scheduler` "
            "prints it"
        ) from error
    try:
        client = Client(address, timeout=_AGAIN_S if again else _CONNECT_S, set_as_default=False)
    except OSError as error:
        if again:
            raise TraceError(
                f"{address}: the scheduler is gone, and with it what its workers had done; start "
                "it again, and then the report"
            ) from error
        raise UsageError(
            f"{address}: no Dask scheduler answers there ({_line(error)}); start one with "
            "`dask scheduler`, and workers with `dask worker ADDRESS`"
        ) from error
    try:
        try:
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError as error:
            raise UsageError(
                f"{address}: no worker has joined for {_WORKERS_S} s; start one with "
                f"`dask worker {address}`"
            ) from error
        yield client
    finally:
        # A client without its scheduler logs how it gives up connecting; our own line comes anyway.
        is_lost = client.status == "connecting"
        with silence_logging_cmgr(logging.CRITICAL) if is_lost else nullcontext():
            client.close()


def _result(address: str, future: Any) -> Any:
    """Of a task that was done; if its worker was lost since, of its being done again."""
    try:
        return future.result()
    except CancelledError as error:
        raise _Dropped(_line(error)) from error
    except Exception:
        if future.status == "error":
            _fail(address, future)
        raise


def _fail(address: str, future: Any) -> None:
    """
    Raises:
        RankscopeError: what the task raised, or that it failed otherwise.
        _Dropped: it did not fail, and is not done.
    """
    if future.status != "error":
        raise _Dropped(f"it does not do {future.key} any more")
    error = future.exception()
    if isinstance(error, RankscopeError):
        raise error
    if isinstance(error, ModuleNotFoundError):
        raise UsageError(
            f"{address}: its workers have no {error.name}: install the same Rankscope on them"
        ) from error
    if type(error).__name__ == "KilledWorker":
        raise TraceError(
            f"{address}: a task was lost with several workers in a row; do they have the memory "
            "for a rank? --steps-per-task makes tasks smaller"
        ) from error
    raise TraceError(f"{address}: a task failed: {type(error).__name__}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return plain_text(next(iter(str(error).splitlines()), type(error).__name__))
