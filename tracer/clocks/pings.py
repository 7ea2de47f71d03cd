"""One comparison of two clocks: a round of pings, of which the one with the shortest way counts.

    asker      t0 ─────────────▶      ◀───────────── t3
    answerer            t1 ─────────── t2

The answerer's clock minus the asker's is ((t1 − t0) + (t2 − t3)) / 2, off by at most half of the
way, (t3 − t0) − (t2 − t1), however that is split between there and back: the estimate is exact if
both take as long, and the bound holds for any asymmetry. (Mills, RFC 5905, section 8; Cristian
1989.) Of a round the ping with the shortest way is kept, since its bound is the tightest.
"""

from __future__ import annotations

import random
import struct
from typing import Final, NamedTuple

_DATAGRAM: Final = struct.Struct("<4s16siIB3xqq")
"""(magic, token, rank of the asker, number, flags, t1, t2): an answer is no longer than what was
asked, so that nobody can be flooded through us."""

_MAGIC: Final = b"RSc1"
_ANSWER: Final = 1
_LAST: Final = 2

PINGS: Final = 32
"""Per round. In a prototype 32 found the offset of two processes to 4 µs (median)."""

_PATIENCE_NS: Final = 50_000_000
_GAPS_NS: Final = (500_000, 3_000_000)
"""Between an answer and the next ping: uneven, so that pings keep no step with anything else."""


class Sample(NamedTuple):
    """At `ts` (ns, our clock) the other clock was `offset` ns ahead, give or take `error` ns."""

    ts: int
    offset: int
    error: int


class Question(NamedTuple):
    """A ping that was received."""

    rank: int
    number: int
    is_last: bool


def answer(question: Question, token: bytes, received: int, sent: int) -> bytes:
    """The datagram that answers a ping; times in ns of the answerer's clock."""
    flags = _ANSWER | (_LAST if question.is_last else 0)
    return _DATAGRAM.pack(_MAGIC, token, question.rank, question.number, flags, received, sent)


def question_of(data: bytes, token: bytes) -> Question | None:
    """The ping in a datagram, if it is one and knows our token."""
    fields = _fields(data, token)
    if fields is None or fields[2] & _ANSWER:
        return None
    return Question(fields[0], fields[1], bool(fields[2] & _LAST))


class Round:
    """A round of pings to one clock. `gaps` is a source of chance of our own: the training's
    must not be touched.
    """

    def __init__(self, token: bytes, rank: int, *, is_last: bool, gaps: random.Random) -> None:
        self.best: Sample | None = None
        self.answered: tuple[str, int] | None = None
        """Where the first answer was asked for."""
        self._token = token
        self._rank = rank
        self._flags = _LAST if is_last else 0
        self._gaps = gaps
        self._numbers = gaps.randrange(1 << 31)
        self._left = PINGS
        self._next_at = 0
        self._waiting: dict[int, tuple[int, tuple[str, int]]] = {}

    def is_due(self, now: int) -> bool:
        """Whether the next ping is to be sent now."""
        return self._left > 0 and now >= self._next_at

    def is_over(self, now: int) -> bool:
        """Whether nothing more is to be sent or awaited."""
        return self._left == 0 and (not self._waiting or now >= self._next_at)

    @property
    def next_at(self) -> int:
        """When something is to be done next, if no answer comes before."""
        return self._next_at

    def ask(self, sent: int, receiver: tuple[str, int]) -> bytes:
        """The datagram to send now to `receiver`; `sent` is the time, read just before."""
        self._numbers = (self._numbers + 1) & 0x7FFFFFFF
        self._waiting[self._numbers] = sent, receiver
        self._next_at = sent + _PATIENCE_NS
        return _DATAGRAM.pack(_MAGIC, self._token, self._rank, self._numbers, self._flags, 0, 0)

    def count(self) -> None:
        """One ping of the round has been sent (to one address, or to all that are tried)."""
        self._left -= 1

    def take(self, data: bytes, arrived: int) -> None:
        """Look at a datagram that arrived: an answer to one of our pings, or nothing."""
        fields = _fields(data, self._token)
        if fields is None or not fields[2] & _ANSWER:
            return
        sent, receiver = self._waiting.pop(fields[1], (None, None))
        if sent is None or receiver is None:
            return
        received, answered = fields[3], fields[4]
        way = (arrived - sent) - (answered - received)
        if way < 0 or answered < received:
            return  # a clock jumped in between
        if self.answered is None:
            self.answered = receiver
        offset = ((received - sent) + (answered - arrived)) // 2
        error = way // 2 + 1
        if self.best is None or error < self.best.error:
            self.best = Sample((sent + arrived) // 2, offset, error)
        self._next_at = arrived + self._gaps.randint(*_GAPS_NS)


def _fields(data: bytes, token: bytes) -> tuple[int, int, int, int, int] | None:
    """rank, number, flags, t1, t2 of a datagram of ours with this token."""
    if len(data) != _DATAGRAM.size:
        return None
    magic, stated, rank, number, flags, received, sent = _DATAGRAM.unpack(data)
    return (rank, number, flags, received, sent) if (magic, stated) == (_MAGIC, token) else None
