"""A 1F1B step of three ranks on paper: p = 3 stages, m = 2 microbatches, F = 10, B = 20.

Every message takes 1. A rank that needs a message waits for it. All times in ns x 1000.

    rank 0  F0 F1 ·················· B0 ·· B1 O·     F0 0-10  F1 10-20  B0 74-94  B1 104-124
    rank 1  ·· F0 F1 ······· B0 ·· B1 O······       F0 11-21 F1 21-31  B0 53-73  B1 83-103
    rank 2  ···· F0 B0 F1 B1 O··········            F0 22-32 B0 32-52  F1 52-62  B1 62-82

The optimizer takes 2 right after a rank's last action; the step ends at 130 everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.toy import Event, RankFacts, write_run

GROUP = "pp:0-2"
STEP_END = 130
ACTIONS = {
    0: [("forward", 0, 0), ("forward", 1, 10), ("backward", 0, 74), ("backward", 1, 104)],
    1: [("forward", 0, 11), ("forward", 1, 21), ("backward", 0, 53), ("backward", 1, 83)],
    2: [("forward", 0, 22), ("backward", 0, 32), ("forward", 1, 52), ("backward", 1, 62)],
}
LENGTH = {"forward": 10, "backward": 20}
# receiver, sender, microbatch, seq from sender, begin of the wait, sent at, end of the wait
MESSAGES = [
    (1, 0, 0, 0, 0, 10, 11),
    (1, 0, 1, 1, 21, 20, 21),
    (2, 1, 0, 0, 0, 21, 22),
    (2, 1, 1, 1, 52, 31, 52),
    (1, 2, 0, 0, 31, 52, 53),
    (1, 2, 1, 1, 73, 82, 83),
    (0, 1, 0, 0, 20, 73, 74),
    (0, 1, 1, 1, 94, 103, 104),
]
SCHEDULE = {
    "name": "Schedule1F1B",
    "stages": 3,
    "microbatches": 2,
    "virtual_stages": 1,
    "pipeline_size": 3,
    "plan": {
        "0": ["0F0", "0F1", "0B0", "0B1"],
        "1": ["1F0", "1F1", "1B0", "1B1"],
        "2": ["2F0", "2B0", "2F1", "2B1"],
    },
}


def step_events(step: int = 0, *, at: int = 0) -> dict[int, list[Event]]:
    """The events of one step that begins at `at`."""
    events: dict[int, list[Event]] = {0: [], 1: [], 2: []}
    for rank, actions in ACTIONS.items():
        for kind, microbatch, start in actions:
            events[rank].append(
                Event(
                    start=at + start,
                    duration=LENGTH[kind],
                    kind=kind,
                    name=kind[0].upper(),
                    step=step,
                    stage=rank,
                    microbatch=microbatch,
                )
            )
        last = max(start + LENGTH[kind] for kind, _, start in actions)
        events[rank].append(
            Event(start=at + last, duration=2, kind="optimizer", name="SGD.step", step=step)
        )
        events[rank].append(Event(start=at, duration=STEP_END, kind="step", name="step", step=step))
    for number, (receiver, sender, microbatch, seq, begin, sent, end) in enumerate(MESSAGES):
        common = {"step": step, "microbatch": microbatch, "group": GROUP, "bytes": 4000}
        common |= {"seq": 2 * step + seq, "dtype": "float32", "count": 1000}
        number += len(MESSAGES) * step
        events[sender].append(
            Event(
                start=at + sent, duration=0, kind="send", name="send", peer=receiver,
                stage=sender, correlation=100 + number, **common,
            )
        )  # fmt: skip
        mine = {"peer": sender, "stage": receiver, "correlation": 200 + number}
        events[receiver].append(
            Event(start=at + begin, duration=0, kind="recv", name="recv", **mine, **common)
        )
        events[receiver].append(
            Event(
                start=at + begin, duration=end - begin, kind="wait", name="recv", **mine, **common
            )
        )
    return events


def write_pipeline(path: Path, *, steps: int = 1, every: int = 1) -> Path:
    """The run with that many equal steps, one after the other; or one recorded out of `every`."""
    return write_steps(
        path,
        [step_events(step, at=step * STEP_END) for step in range(0, steps * every, every)],
    )


def write_steps(path: Path, steps: Sequence[Mapping[int, Sequence[Event]]]) -> Path:
    """The run of the events of these steps, each by rank."""
    events = {rank: [event for step in steps for event in step[rank]] for rank in ACTIONS}
    facts = {
        rank: RankFacts(
            coordinates={"pp": rank},
            stages=(rank,),
            groups={GROUP: {"dim": "pp", "ranks": [0, 1, 2]}},
        )
        for rank in events
    }
    mesh = {"names": ["pp"], "shape": [3], "coordinates": {"0": [0], "1": [1], "2": [2]}}
    return write_run(path, events, facts=facts, schedule=SCHEDULE, mesh=mesh, scale=1000)
