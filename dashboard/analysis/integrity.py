"""Integrity: does what the ranks recorded fit together, and with the plan?

A run that is damaged, out of step or misaligned gives wrong numbers everywhere else; a job that
hung is explained by the collective at which its ranks parted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dashboard.analysis.actions import Action, pipeline_actions, pipelines
from dashboard.analysis.matching import MessageKey, Row, matched
from dashboard.analysis.operations import operations
from dashboard.analysis.results import Result
from dashboard.analysis.steps import step_windows

if TYPE_CHECKING:
    from dashboard.runs import Recording

_LETTERS: Final = {"forward": "F", "backward": "B", "backward_input": "I", "backward_weight": "W"}
_PLANNED: Final = re.compile(r"(\d+)([FBIW])(\d+)")


@dataclass(kw_only=True, frozen=True)
class Violation(Result):
    """One thing that does not fit: what kind of check failed, on which rank, and how."""

    check: str
    rank: int | None
    text: str


def violations(run: Recording) -> list[Violation]:
    """All that does not fit, in the order of the checks; empty for a sound run."""
    messages, collectives = matched(operations(run).to_pylist())
    return [
        *_readable(run),
        *_windows(run),
        *_plan(run),
        *_messages(run, messages),
        *_collectives(run, collectives),
        *_causality(messages),
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
    places = {rank: place for ranks in pipelines(run).values() for place, rank in enumerate(ranks)}
    off: set[int] = set()
    for step, actions in pipeline_actions(run).items():
        for rank in run.ranks:
            place = run.facts[rank].coordinates.get("pp", places[rank])
            wanted = [match.groups() for a in plan.get(place, ()) for match in _PLANNED.finditer(a)]
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


def _messages(run: Recording, messages: Mapping[MessageKey, dict[str, Row]]) -> Iterator[Violation]:
    """Every send has its receive and the other way round, as far as both ranks are readable."""
    reported: set[tuple[str, int, int, str]] = set()
    lone = {key: found for key, found in messages.items() if len(found) == 1}
    readable = {key for key in lone if key[1] in run.ranks and key[2] in run.ranks}
    for group, source, destination, seq in sorted(readable):
        found = lone[group, source, destination, seq]
        missing = "receive" if "send" in found else "send"
        if (group, source, destination, missing) in reported:
            continue
        reported.add((group, source, destination, missing))
        rank = destination if missing == "receive" else source
        yield Violation(
            check="messages",
            rank=rank,
            text=f"{group}: no {missing} of message {seq} from rank {source} to {destination} "
            "(the first of its kind)",
        )


def _collectives(
    run: Recording, collectives: Mapping[tuple[str, int], dict[int, Row]]
) -> Iterator[Violation]:
    """All members of a group issue the same collectives in the same order; the first that parts."""
    members = {name: g.ranks for f in run.facts.values() for name, g in f.groups.items()}
    calls: dict[str, dict[int, dict[int, Row]]] = defaultdict(dict)
    for (group, seq), arrived in collectives.items():
        calls[group][seq] = arrived
    for group, by_seq in sorted(calls.items()):
        wanted = [rank for rank in members.get(group, ()) if rank in run.ranks]
        for seq, arrived in sorted(by_seq.items()):
            said = _desynchronized(group, seq, wanted, arrived)
            if said:
                absent = [rank for rank in wanted if rank not in arrived]
                rank = absent[0] if len(absent) == 1 else None
                yield Violation(check="collectives", rank=rank, text=said)
                break


def _desynchronized(
    group: str, seq: int, wanted: Sequence[int], arrived: dict[int, Row]
) -> str | None:
    ops = {rank: (row["op"], row["bytes"]) for rank, row in arrived.items()}
    said = ", ".join(f"rank {rank}: {op} of {size or 0:,} B" for rank, (op, size) in ops.items())
    absent = [rank for rank in wanted if rank not in arrived]
    if absent:
        names = ", ".join(str(rank) for rank in absent)
        return f"{group} #{seq}: did not arrive: rank {names}; arrived: {said}"
    if len(set(ops.values())) > 1:
        return f"{group} #{seq}: the members called different operations: {said}"
    return None


def _causality(messages: Mapping[MessageKey, dict[str, Row]]) -> Iterator[Violation]:
    """On one clock nothing is received before it is sent; what is left tells of the clock."""
    received = [ends for ends in messages.values() if "recv" in ends]
    pairs = [(ends["send"]["start"], ends["recv"]["end"]) for ends in received if "send" in ends]
    early = [sent - end for sent, end in pairs if end < sent]
    if early:
        yield Violation(
            check="clock",
            rank=None,
            text=f"{len(early)} of {len(received):,} messages are received before they are sent, "
            f"by up to {max(early) / 1e3:,.1f} µs: the clocks are further apart than that",
        )
