"""One round of pings, on paper: which offset it says, within which bound, and what it refuses."""

from __future__ import annotations

import random

import pytest

from tracer.clocks.pings import PINGS, Question, Round, Sample, answer, question_of

TOKEN = bytes(range(16))
THERE = ("10.0.0.1", 4000)


def _round() -> Round:
    return Round(TOKEN, 3, is_last=False, gaps=random.Random(1))


def _ping(pings: Round, sent: int, received: int, answered: int, arrived: int) -> None:
    """One ping at these times, in the clocks of those who read them."""
    asked = question_of(pings.ask(sent, THERE), TOKEN)
    assert asked is not None
    pings.count()
    pings.take(answer(asked, TOKEN, received, answered), arrived)


def test_a_way_that_is_as_long_there_as_back_gives_the_exact_offset() -> None:
    # The other clock is 1,000 ahead; 40 there, 10 in the answerer, 40 back.
    pings = _round()
    _ping(pings, sent=100, received=100 + 40 + 1000, answered=150 + 1000, arrived=190)

    assert pings.best == Sample(ts=145, offset=1000, error=41)


@pytest.mark.parametrize(("there", "back"), [(80, 0), (0, 80), (70, 10)])
def test_asymmetry_cannot_be_seen_and_the_bound_covers_it(there: int, back: int) -> None:
    pings = _round()
    _ping(pings, 100, 100 + there + 1000, 110 + there + 1000, 110 + there + back)

    assert pings.best is not None
    assert pings.best.error == 41
    assert abs(pings.best.offset - 1000) == abs(there - back) // 2 <= pings.best.error


def test_the_ping_with_the_shortest_way_counts() -> None:
    pings = _round()
    _ping(pings, sent=0, received=1500, answered=1510, arrived=520)
    _ping(pings, sent=1000, received=2030, answered=2040, arrived=1070)
    _ping(pings, sent=2000, received=3100, answered=3110, arrived=2500)

    assert pings.best == Sample(ts=1035, offset=1000, error=31)


def test_a_clock_that_jumps_during_a_ping_makes_no_sample() -> None:
    pings = _round()
    _ping(pings, sent=100, received=5000, answered=9000, arrived=190)  # 4,000 there in 90 here
    _ping(pings, sent=200, received=9000, answered=5000, arrived=290)  # answered before it came

    assert pings.best is None


def test_what_is_not_an_answer_to_this_round_is_nothing() -> None:
    pings = _round()
    asked = question_of(pings.ask(100, THERE), TOKEN)
    assert asked is not None
    good = answer(asked, TOKEN, 1140, 1150)
    for datagram in (
        b"",
        good[:-1],
        good + b"\0",
        b"HTTP" + good[4:],
        answer(asked, bytes(16), 1140, 1150),
        answer(asked._replace(number=asked.number + 1), TOKEN, 1140, 1150),
    ):
        pings.take(datagram, 190)
    assert pings.best is None
    pings.take(good, 190)
    pings.take(answer(asked, TOKEN, 1100, 1189), 191)  # a second answer to the same ping

    assert pings.best == Sample(145, 1000, 41)


def test_a_question_needs_the_token_and_an_answer_is_no_question() -> None:
    datagram = _round().ask(100, THERE)
    asked = question_of(datagram, TOKEN)

    assert asked == Question(rank=3, number=asked.number if asked else 0, is_last=False)
    assert question_of(datagram, bytes(16)) is None
    assert asked is not None
    assert question_of(answer(asked, TOKEN, 1, 2), TOKEN) is None
    assert len(answer(asked, TOKEN, 1, 2)) == len(datagram)


def test_a_round_ends_after_its_pings_also_without_any_answer() -> None:
    pings, now, sent = _round(), 0, 0
    while not pings.is_over(now):
        if pings.is_due(now):
            pings.ask(now, THERE)
            pings.count()
            sent += 1
        now = pings.next_at

    assert sent == PINGS
    assert pings.best is None
