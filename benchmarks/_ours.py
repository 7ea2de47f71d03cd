"""What recording adds to a step: it is switched off and on in parts, and steps recorded in a row.

How, and why so, is told in _peers.py, which measures others beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from resource import RUSAGE_THREAD, getrusage
from statistics import mean, median

import torch.distributed as dist

from benchmarks._figures import median_interval, show
from tracer import Tracer

PART = 50
"""Collectives at most between switching our recording on or off."""

SETTLING = 5
"""Collectives after a switch that are in no part."""

_PIECE = 10
"""Collectives at most that are timed together while all steps are recorded."""

_AT_WORK_NS = 20_000
"""Of processor time that others take in a piece from which on it counts as met by a flush."""

_BETWEEN = 10
"""Pieces in which a flush may sleep before it goes on."""

_END = 1 << 62

Step = Callable[[int], None]
"""Does the work of a step, or of the part of it that has so many collectives."""


@dataclass(frozen=True, slots=True)
class Ours:
    """What recording took in a round, in ns of processor time.

    `without` and `differences` are of each pair of parts; `ends` (of `t.step()`), `met` (flushes)
    and `others` are per step; `turns` and `flushes` (time and sleeps) are of each flush.
    """

    parts: float
    without: list[int]
    differences: list[int]
    ends: float
    turns: list[float]
    met: float
    others: float
    flushes: list[tuple[int, int]]


def record_steps(
    directory: Path,
    step: Step,
    operations: int,
    elsewhere: Callable[[], None],
    *,
    pairs: int,
    seconds: float,
) -> Ours:
    """What recording adds, `seconds` of it being recorded without a gap."""
    part = min(operations, PART)
    bare = vars(dist.ProcessGroup)["allreduce"]
    without, differences = [], []
    notes: list[tuple[int, int]] = []

    def note() -> None:
        notes.append((time.thread_time_ns(), getrusage(RUSAGE_THREAD).ru_nvcsw))

    with Tracer(directory) as t:
        hooked = vars(dist.ProcessGroup)["allreduce"]
        for number in range(max(1, pairs)):
            taken = [0, 0]
            elsewhere()
            for active in (True, False) if number % 2 else (False, True):
                t.recorder.active = active
                dist.ProcessGroup.allreduce = hooked if active else bare
                step(SETTLING)
                start = time.thread_time_ns()
                step(part)
                taken[active] = time.thread_time_ns() - start
            without.append(taken[False])
            differences.append(taken[True] - taken[False])
        t.recorder.active = True
        dist.ProcessGroup.allreduce = hooked
        _recorded(t, step, operations, seconds / 2)  # so that flushes have come to their pace
        t.recorder.on_flush.append(note)
        ends, pieces, others = _recorded(t, step, operations, seconds)
        t.recorder.on_flush.remove(note)
    met = flushes_met([others for _, others in pieces])
    return Ours(
        parts=operations / part,
        without=without,
        differences=differences,
        ends=mean(ends),
        turns=longer([own for own, _ in pieces], met),
        met=len(met) / len(ends),
        others=others,
        # One sleep is between two flushes.
        flushes=[(b[0] - a[0], b[1] - a[1] - 1) for a, b in pairwise(notes)],
    )


def _recorded(
    t: Tracer, step: Step, operations: int, seconds: float
) -> tuple[list[int], list[tuple[int, int]], float]:
    """Processor ns that the parts leave out: of each `t.step()`; of each piece, by this thread and
    by all others; of all others per step.
    """
    piece = min(operations, _PIECE)
    ends, pieces, beside = [], [], 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _ in range(operations // piece):
            process, thread = time.process_time_ns(), time.thread_time_ns()
            step(piece)
            own = time.thread_time_ns() - thread
            pieces.append((own, time.process_time_ns() - process - own))
        process, thread = time.process_time_ns(), time.thread_time_ns()
        t.step()
        ends.append(time.thread_time_ns() - thread)
        beside += time.process_time_ns() - process - ends[-1]
    return ends, pieces, (beside + sum(others for _, others in pieces)) / len(ends)


def flushes_met(others: list[int]) -> list[tuple[int, int]]:
    """The first and the last piece that each flush met, from what others took in each piece."""
    met = [number for number, taken in enumerate(others) if taken >= _AT_WORK_NS]
    begins = [now for before, now in pairwise([-_BETWEEN - 1, *met]) if now - before > _BETWEEN]
    return [(first, max(n for n in met if n < until)) for first, until in pairwise([*begins, _END])]


def longer(own: list[int], flushes: list[tuple[int, int]]) -> list[float]:
    """For each flush, how much longer the pieces took that it met than as many on either side.

    Of pieces of 4, 4, 7, 6, 4, 5, of which the third and fourth met it: 13 - (4 + 4 + 4 + 5) / 2.
    One that has not as many on a side, before the next flush or the end, tells nothing.
    """
    found = []
    for (_, before), (first, last), (after, _) in zip(
        [(0, -1), *flushes], flushes, [*flushes[1:], (len(own), 0)], strict=False
    ):
        begin, end = 2 * first - last - 1, 2 * last + 2 - first
        if before < begin and end <= after:
            sides = sum(own[begin:first]) + sum(own[last + 1 : end])
            found.append(sum(own[first : last + 1]) - sides / 2)
    return found


def show_ours(name: str, rounds: list[Ours]) -> tuple[float, float, float]:
    """Print what recording added in percent, and of what it is made; the middle, low and high."""
    differences = [difference for one in rounds for difference in one.differences]
    low, high = median_interval(differences)
    whole = _whole(rounds)
    flushes = [flush for one in rounds for flush in one.flushes]
    if flushes:
        taken, sleeps = (median(column) for column in zip(*flushes, strict=True))
        show(f"overhead.{name}_flush_ms", taken / 1e6, "ms", len(flushes))
        show(f"overhead.{name}_flush_sleeps", sleeps, "sleeps", len(flushes))
    beside = 100 * mean(one.others for one in rounds) / whole
    show(f"overhead.{name}_beside_percent", beside, "percent", len(rounds))
    told = sum(len(one.turns) for one in rounds)
    show(f"overhead.{name}_turns_told", told, "flushes", len(rounds))
    if told:
        show(f"overhead.{name}_turns_percent", 100 * _turns(rounds) / whole, "percent", told)
    middle = _percent(rounds, median(differences))
    added = middle, _percent(rounds, low), _percent(rounds, high)
    for end, value in zip(("", "_low", "_high"), added, strict=True):
        show(f"overhead.{name}_percent{end}", value, "percent", len(differences))
    return added


def _percent(rounds: list[Ours], of_pairs: float) -> float:
    """What recording added, where the parts differ by so much."""
    outside = mean(one.ends + one.others for one in rounds) + _turns(rounds)
    return 100 * (rounds[0].parts * of_pairs + outside) / _whole(rounds)


def _whole(rounds: list[Ours]) -> float:
    """Of a step without it."""
    return rounds[0].parts * median(taken for one in rounds for taken in one.without)


def _turns(rounds: list[Ours]) -> float:
    """Per step; by the median flush, since a few tell a mean that is mostly the machine's noise.

    None has been told where no flush had room on both sides: then 0, which `_turns_told` says.
    """
    turns = [taken for one in rounds for taken in one.turns]
    return median(turns) * mean(one.met for one in rounds) if turns else 0.0
