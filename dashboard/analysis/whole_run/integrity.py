"""Integrity: does what the ranks recorded fit together, and with the plan?

A run that is damaged, out of step or misaligned gives wrong numbers everywhere else; a job that
hung is explained by the collective at which its ranks parted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dashboard.analysis.communication.arrivals import partings
from dashboard.analysis.communication.matching import MessageKey, Row, matched
from dashboard.analysis.coverage import Coverage
from dashboard.analysis.operations import operations
from dashboard.analysis.pipeline.actions import Action, pipeline_actions, places
from dashboard.analysis.results import Result
from dashboard.analysis.steps import step_windows
from tracer.schema import NOT_COMPLETE

if TYPE_CHECKING:
    from dashboard.runs import Recording

_LETTERS: Final = {"forward": "F", "backward": "B", "backward_input": "I", "backward_weight": "W"}
_PLANNED: Final = re.compile(r"(\d+)([FBIW])(\d+)")

_WIDE_BOUND_NS: Final = 1_000_000
"""Collectives of this length and shorter say nothing of who came late."""

_NAMED: Final = 4
"""Ranks with an unfinished operation that are quoted one by one."""


@dataclass(kw_only=True, frozen=True)
class Violation(Result):
    """One thing that does not fit: what kind of check failed, on which rank, and how."""

    check: str
    rank: int | None
    text: str


def violations(run: Recording) -> list[Violation]:
    """All that does not fit, in the order of the checks; empty for a sound run."""
    rows = operations(run).to_pylist()
    messages, collectives = matched(rows)
    coverage = Coverage(run)
    return [
        *_readable(run),
        *_windows(run),
        *_plan(run),
        *_messages(coverage, messages),
        *_numbers(run, rows),
        *_collectives(run, collectives, coverage),
        *_unfinished(run),
        *_clock(run),
        *_causality(run, messages),
    ]


def _readable(run: Recording) -> Iterator[Violation]:
    for problem in run.problems:
        yield Violation(check="files", rank=problem.rank, text=str(problem))


def _windows(run: Recording) -> Iterator[Violation]:
    """Step windows of a rank follow each other without gap or overlap."""
    before: dict[int, Row] = {}
    for row in step_windows(run).to_pylist():
        last = before.get(row["rank"])
        if last is not None and row["step"] == last["step"] + 1:
            gap = row["start"] - last["start"] - last["duration"]
            if gap:
                said = f"{gap:,} ns between the end of step {last['step']} and the next one's start"
                yield Violation(check="steps", rank=row["rank"], text=said)
        before[row["rank"]] = row


def _plan(run: Recording) -> Iterator[Violation]:
    """Each rank did the actions of the plan, each once, in the plan's order; first step off."""
    plan = run.meta.schedule.plan if run.meta.schedule else {}
    if not plan:
        return
    place_of = places(run)
    off: set[int] = set()
    for step, actions in pipeline_actions(run).items():
        for rank in run.ranks:
            planned = plan.get(place_of[rank], ())
            wanted = [match.groups() for a in planned for match in _PLANNED.finditer(a)]
            done = _recorded(actions, rank)
            if rank not in off and wanted != done:
                off.add(rank)
                yield Violation(
                    check="plan", rank=rank, text=f"step {step}: {_parted(wanted, done)}"
                )


def _recorded(actions: Sequence[Action], rank: int) -> list[tuple[str, ...]]:
    mine = [action for action in actions if action.rank == rank]
    return [(str(a.stage), _LETTERS[a.kind], str(a.microbatch)) for a in mine]


def _parted(wanted: Sequence[tuple[str, ...]], done: Sequence[tuple[str, ...]]) -> str:
    """Where two lists of actions part."""
    same = 0
    while same < min(len(wanted), len(done)) and wanted[same] == done[same]:
        same += 1
    planned = "".join(wanted[same]) if same < len(wanted) else "nothing more"
    found = "".join(done[same]) if same < len(done) else "nothing more"
    return f"action {same} should be {planned}, recorded is {found}"


def _messages(
    coverage: Coverage, messages: Mapping[MessageKey, dict[str, Row]]
) -> Iterator[Violation]:
    """Every send has its receive and the other way round, as far as both files would tell."""
    begins: dict[tuple[str, int, int], dict[str, int]] = defaultdict(dict)
    for group, source, destination, seq in sorted(messages):
        for end in messages[group, source, destination, seq]:
            begins[group, source, destination].setdefault(end, seq)
    reported: set[tuple[str, int, int, str]] = set()
    for key in sorted(key for key, found in messages.items() if len(found) == 1):
        group, source, destination, seq = key
        ((kind, row),) = messages[key].items()
        missing = "receive" if kind == "send" else "send"
        rank = destination if kind == "send" else source
        kept = begins[group, source, destination].get("recv" if kind == "send" else "send", 0)
        if (
            (group, source, destination, missing) in reported
            or seq < kept
            or not coverage.would_hold(rank, row["end"])
        ):
            continue
        reported.add((group, source, destination, missing))
        yield Violation(
            check="messages",
            rank=rank,
            text=f"{group}: no {missing} of message {seq} from rank {source} to {destination} "
            "(the first of its kind)",
        )


def _collectives(
    run: Recording, collectives: Mapping[tuple[str, int], dict[int, Row]], coverage: Coverage
) -> Iterator[Violation]:
    """All members of a group issue the same collectives in the same order; the first that parts."""
    for parting in partings(run, collectives, coverage):
        rank = parting.absent[0] if len(parting.absent) == 1 else None
        yield Violation(check="collectives", rank=rank, text=str(parting))


def _unfinished(run: Recording) -> Iterator[Violation]:
    """Operations that were still going on when the recording ended; of each group the first."""
    markers = run.events(kinds=("marker",), columns=("name", "group", "seq"))
    unfinished: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for row in markers.to_pylist():
        if row["name"].startswith(NOT_COMPLETE) and row["group"] is not None:
            key = row["group"], -1 if row["seq"] is None else row["seq"]
            unfinished[key].setdefault(row["rank"], row["name"].removeprefix(NOT_COMPLETE))
    told: set[str] = set()
    for (group, seq), ranks in sorted(unfinished.items()):
        if group in told:
            continue
        told.add(group)
        number = f" #{seq}" if seq >= 0 else ""
        some = sorted(ranks.items())[:_NAMED]
        said = "; ".join(f"{what} on rank {rank}" for rank, what in some)
        more = f"; {len(ranks) - _NAMED:,} more ranks" if len(ranks) > _NAMED else ""
        yield Violation(
            check="unfinished",
            rank=next(iter(ranks)) if len(ranks) == 1 else None,
            text=f"{group}{number} was still going on at the end: {said}{more}",
        )


def _numbers(run: Recording, rows: Iterable[Row]) -> Iterator[Violation]:
    """No rank has the same collective of a group twice; the first of each rank and group."""
    seen: dict[tuple[int, str], set[int]] = defaultdict(set)
    reported: set[tuple[int, str]] = set()
    for row in rows:
        if row["group"] is None or row["seq"] is None or row["op"] in ("send", "recv"):
            continue
        where = row["rank"], row["group"]
        if row["seq"] in seen[where] and where not in reported:
            reported.add(where)
            said = f"{row['group']} #{row['seq']} is recorded twice"
            yield Violation(check="collectives", rank=row["rank"], text=said)
        seen[where].add(row["seq"])


def _clock(run: Recording) -> Iterator[Violation]:
    """Times of different hosts compare, to within what a short operation takes."""
    clock = run.clock
    if clock.violations:
        said = (
            f"{clock.violations:,} of {clock.checked:,} operations between hosts have an effect "
            "before its cause: the clocks are further apart than their bound says"
        )
        yield Violation(check="clock", rank=None, text=said)
    if clock.bound_ns is not None and clock.bound_ns > _WIDE_BOUND_NS:
        said = (
            f"times of different hosts compare only to within {clock.bound_ns / 1e6:,.1f} ms: "
            "too few comparisons of clocks were recorded (is UDP between the hosts blocked?)"
        )
        yield Violation(check="clock", rank=None, text=said)


def _causality(
    run: Recording, messages: Mapping[MessageKey, dict[str, Row]]
) -> Iterator[Violation]:
    """On one clock nothing is received before it is sent; what is left tells of the clock.

    Of an import, a receive of no length is one whose end nobody recorded.
    """
    received = [ends for ends in messages.values() if "recv" in ends]
    if run.meta.source is not None:
        received = [ends for ends in received if ends["recv"]["end"] > ends["recv"]["start"]]
    pairs = [(ends["send"]["start"], ends["recv"]["end"]) for ends in received if "send" in ends]
    early = [sent - end for sent, end in pairs if end < sent]
    if early:
        yield Violation(
            check="clock",
            rank=None,
            text=f"{len(early)} of {len(received):,} messages are received before they are sent, "
            f"by up to {max(early) / 1e3:,.1f} µs: the clocks are further apart than that",
        )
