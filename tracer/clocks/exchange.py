"""The thread that compares this host's clock with another's, and answers those below it.

It lives on one rank per host, off the hot path, and makes no collective call: the Store tells it
once whom to ask, from then on it sends datagrams. Where no answer comes it asks again later;
nobody waits for it longer than the time-outs below. Its samples go to `recorder.clock_samples`,
and so to `rank-00000.clock.arrows`.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
import time
from typing import Final

from tracer.clocks.endpoint import Arrival, Endpoint
from tracer.clocks.pings import Round, Sample, answer, question_of
from tracer.clocks.rendezvous import (
    Address,
    join,
    own_address,
    publish_root,
    shared_store,
    speaks_for_its_host,
)
from tracer.recorder import Recorder, warn

_FIRST_PAUSE_NS: Final = 50_000_000
_PAUSES_NS: Final = (500_000_000, 1_000_000_000, 2_000_000_000, 4_000_000_000, 8_000_000_000)
"""Between the first rounds: a short run needs its drift too."""

PERIOD_NS: Final = 30_000_000_000
"""Between the rounds after these."""

LAST_ROUND_S: Final = 0.5
"""How long the end of a recording waits for the last round."""

LINGER_S: Final = 1.0
"""How long it then waits for the last rounds of those that compare their clocks with this one."""

_SILENT_NS: Final = 2 * PERIOD_NS
"""One that has not asked for so long is not waited for."""

_JOIN_S: Final = 0.5


class ClockExchange:
    """Compares clocks from `start` to `close`; `clock_id` is the same where the clock is.

    `key` is the same on all ranks of a recording and differs between recordings.
    """

    def __init__(self, recorder: Recorder, *, rank: int, clock_id: str, key: str) -> None:
        self._recorder = recorder
        self._rank = rank
        self._clock_id = clock_id
        self._key = key
        self._stopping = threading.Event()
        self._ready = threading.Event()
        """Set while there is somebody to ask, and the loop is at work."""
        self._last_wanted = False
        self._last_done = threading.Event()
        self._asked_by: dict[int, tuple[int, bool]] = {}
        self._gaps = random.Random()
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="rankscope-clock", daemon=True)

    def start(self) -> None:
        """Begin, as soon as there is a process group."""
        self._thread.start()

    def finish(self, timeout_s: float = LAST_ROUND_S) -> None:
        """Compare once more, for at most `timeout_s`; the samples are with the recorder then."""
        if self._ready.is_set():
            self._last_wanted = True
            self._wake()
            self._last_done.wait(timeout_s)

    def close(self, linger_s: float = LINGER_S) -> None:
        """Let those who compare their clocks with this one finish, for at most `linger_s`, then
        stop.
        """
        until = time.monotonic() + linger_s
        while self._is_awaited() and time.monotonic() < until:
            time.sleep(0.005)
        self._stopping.set()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)
        if not self._thread.is_alive():
            self._waker.close()
            self._woken.close()

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            return

    def _is_awaited(self) -> bool:
        recent = self._recorder.clock() - _SILENT_NS
        return any(seen > recent and not last for seen, last in list(self._asked_by.values()))

    def _run(self) -> None:
        endpoint: Endpoint | None = None
        try:
            store = shared_store(self._stopping, f"rankscope/clock/{self._key}")
            if store is None:
                return
            if self._rank != 0 and not speaks_for_its_host(store, self._clock_id, self._stopping):
                return
            endpoint = Endpoint(self._recorder.clock)
            own = own_address(self._rank, self._clock_id, endpoint.port)
            other: Address | None = None
            if self._rank == 0:
                publish_root(store, own)
            else:
                other = join(store, own, self._stopping)
                if other is None:
                    return
            del store  # the connection is not needed any more
            self._exchange(endpoint, own, other)
        except Exception as error:  # of a Store that is gone, say, with the rank that held it
            if not self._stopping.is_set():
                _say_that_clocks_are_not_compared(error)
        finally:
            try:
                self._last_done.set()
                if endpoint is not None:
                    endpoint.close()
            except Exception as error:
                self._recorder.fault(error)

    def _exchange(self, endpoint: Endpoint, own: Address, other: Address | None) -> None:
        asking = _Asking(self._recorder, self._rank, other, self._gaps) if other else None
        if asking is not None:
            self._ready.set()
        while not self._stopping.is_set():
            now = self._recorder.clock()
            timeout = None if asking is None else max(asking.next_at - now, 0) / 1e9
            ready, _, _ = select.select([endpoint.socket, self._woken], [], [], timeout)
            if self._woken in ready:
                self._woken.recv(64)
            for arrival in endpoint.arrivals():
                self._answer(endpoint, own, arrival)
                if asking is not None:
                    asking.take(arrival)
            if asking is not None:
                if self._last_wanted:
                    self._last_wanted = False
                    asking.begin(is_last=True)
                asking.go_on(endpoint)
                if asking.is_finished:
                    self._last_done.set()

    def _answer(self, endpoint: Endpoint, own: Address, arrival: Arrival) -> None:
        question = question_of(arrival.data, own.secret)
        if question is not None:
            sent = self._recorder.clock()
            endpoint.send(answer(question, own.secret, arrival.time, sent), arrival.sender)
            self._asked_by[question.rank] = sent, question.is_last


def _say_that_clocks_are_not_compared(error: BaseException) -> None:
    with contextlib.suppress(Exception):  # of the error's own text
        why = next(iter(str(error).splitlines()), "")
        warn(
            "clocks of hosts are not compared from here on, and the recording goes on "
            f"({type(error).__name__}: {why})"
        )


class _Asking:
    """The rounds of pings to one clock."""

    def __init__(self, recorder: Recorder, rank: int, other: Address, gaps: random.Random) -> None:
        self._recorder = recorder
        self._rank = rank
        self._other = other
        self._gaps = gaps
        self._candidates = [(address, other.port) for address in other.addresses]
        self._chosen: tuple[str, int] | None = None
        self._rounds = 0
        self._round: Round | None = None
        self._is_last = False
        self._next_round_at = recorder.clock() + self._about(_FIRST_PAUSE_NS)
        self.is_finished = False

    @property
    def next_at(self) -> int:
        """When something is to be done next, if nothing arrives before."""
        return self._next_round_at if self._round is None else self._round.next_at

    def begin(self, *, is_last: bool) -> Round:
        """Begin a round now, whatever is under way."""
        self._is_last = is_last
        self._round = Round(self._other.secret, self._rank, is_last=is_last, gaps=self._gaps)
        return self._round

    def take(self, arrival: Arrival) -> None:
        """Look at a datagram that arrived."""
        if self._round is not None:
            self._round.take(arrival.data, arrival.time)
            if self._chosen is None:
                self._chosen = self._round.answered

    def go_on(self, endpoint: Endpoint) -> None:
        """Send what is due, end the round that is over."""
        now = self._recorder.clock()
        if self._round is None and now < self._next_round_at:
            return
        pings = self._round or self.begin(is_last=False)
        if pings.is_due(now):
            for receiver in [self._chosen] if self._chosen else self._candidates:
                endpoint.send(pings.ask(self._recorder.clock(), receiver), receiver)
            pings.count()
        elif pings.is_over(now):
            self._end(pings.best, now)

    def _about(self, pause: int) -> int:
        """A fifth more or less, so that those who ask one clock do not ask all at once."""
        return int(pause * self._gaps.uniform(0.8, 1.2))

    def _end(self, sample: Sample | None, now: int) -> None:
        if sample is not None:
            source = f"rank:{self._other.rank}"
            self._recorder.clock_samples.append((sample.ts, source, sample.offset, sample.error))
        pause = _PAUSES_NS[self._rounds] if self._rounds < len(_PAUSES_NS) else PERIOD_NS
        self._rounds += 1
        self._round, self._next_round_at = None, now + self._about(pause)
        self.is_finished = self.is_finished or self._is_last
