"""What a simulation takes from a recorded run: how long its work, calls and transfers took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dashboard.analysis.operations import operations
from dashboard.analysis.pipeline.actions import pipeline_actions
from dashboard.analysis.replay.simulation import place_of
from dashboard.analysis.replay.step_model import HALVES, StepModel, step_model
from dashboard.run import Run
from tracer.errors import UsageError

Samples = npt.NDArray[np.float64]
"""Recorded times, ns."""

_REDUCTION_SHARE: Final = 0.1
"""Of a stage's compute per step, for the reduction of gradients where none was recorded."""
_NO_TIME: Final = np.zeros(1)


@dataclass(kw_only=True, frozen=True)
class Statistics:
    """Of one recorded run, times in ns.

    model: its actions and what lies between them (step_model.py).
    work: (stage, kind) → an action less its communication with tensor ranks.
    collectives: by kind of action, how many collectives of tensor ranks lie in it.
    call_ns: host time of a call, by `collective`, `send`, `recv`.
    transfer_ns: by dimension, from the last member's arrival to the end of the collective.
    bytes: by dimension, the median payload.
    optimizer_ns: optimizer steps.
    reduction_ns: recorded reductions of gradients, or a tenth of a stage's compute.
    is_reduction_assumed: whether it is that tenth.
    """

    model: StepModel
    work: Mapping[tuple[int, str], Samples]
    collectives: Mapping[str, int]
    call_ns: Mapping[str, Samples]
    transfer_ns: Mapping[str, Samples]
    bytes: Mapping[str, int]
    optimizer_ns: Samples
    reduction_ns: Samples
    is_reduction_assumed: bool

    def work_of(
        self, random: np.random.Generator, stage: int, stages: int, kind: str, size: tuple[int, ...]
    ) -> Samples:
        """So many durations of `kind` at a stage of so many, drawn from the recorded stage that
        lies as far along.
        """
        recorded = place_of(stage, stages, self.model.stages)
        known = self.work.get((recorded, kind))
        if known is not None:
            return draw(random, known, size)
        if kind in HALVES:
            half = self.model.input_share if kind == "backward_input" else self._weights_share
            return half * draw(random, self.work[recorded, "backward"], size)
        parts = [self.work[recorded, half] for half in HALVES if (recorded, half) in self.work]
        return sum((draw(random, part, size) for part in parts), np.zeros(size))

    @property
    def _weights_share(self) -> float:
        return 1 - self.model.input_share


def statistics(run: Run) -> Statistics:
    """Of a recorded run with a pipeline schedule.

    Raises:
        UsageError: it has none, or no complete step of all its stages.
    """
    model = step_model(run)
    found = operations(run, model.steps).to_pylist()
    inside: dict[tuple[int, int, int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        if row["dim"] == "tp" and row["microbatch"] is not None:
            key = row["rank"], row["step"], row["stage"], row["microbatch"]
            inside[key].append(row)
    work: dict[tuple[int, str], list[float]] = defaultdict(list)
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for step, actions in pipeline_actions(run, model.steps).items():
        for action in actions:
            mine = [
                row
                for row in inside[action.rank, step, action.stage, action.microbatch]
                if action.start <= row["start"] <= action.end
            ]
            spent = sum(min(row["end"], action.end) - row["start"] for row in mine)
            work[action.stage, action.kind].append(max(action.duration - spent, 1))
            counts[action.kind][len(mine)] += 1
    reduction = _transfers(row for row in found if row["dim"] == "dp")
    return Statistics(
        model=model,
        work={key: np.array(values, np.float64) for key, values in work.items()},
        collectives={kind: count.most_common(1)[0][0] for kind, count in counts.items()},
        call_ns=_calls(found),
        transfer_ns={"tp": _transfers(row for rows in inside.values() for row in rows)},
        bytes=_bytes(found),
        optimizer_ns=_optimizer(run),
        reduction_ns=reduction if len(reduction) else _assumed_reduction(model),
        is_reduction_assumed=not len(reduction),
    )


def draw(random: np.random.Generator, samples: Samples, size: tuple[int, ...]) -> Samples:
    """So many of the samples, each as likely."""
    return samples[random.integers(len(samples), size=size)]


def require_collectives(found: Statistics, name: str) -> None:
    """Raise UsageError if the run tells nothing of tensor ranks."""
    if not len(found.transfer_ns["tp"]):
        raise UsageError(
            f"{name}: no collective of tensor ranks was recorded inside its actions, so it does "
            "not tell what one takes; choose a sample with tensor ranks, or --tensor 1"
        )


def _calls(found: Iterable[dict[str, Any]]) -> dict[str, Samples]:
    calls: dict[str, list[float]] = defaultdict(list)
    for row in found:
        kind = row["op"] if row["op"] in ("send", "recv") else "collective"
        calls[kind].append(row["call_end"] - row["start"])
    kinds = ("collective", "send", "recv")
    return {kind: np.array(calls.get(kind, [0.0]), np.float64) for kind in kinds}


def _transfers(rows: Iterable[dict[str, Any]]) -> Samples:
    """From the last arrival of each collective to its end."""
    members: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        members[row["group"], row["seq"]].append(row)
    return np.array(
        [
            max(max(row["end"] for row in ranks) - max(row["start"] for row in ranks), 0)
            for ranks in members.values()
        ],
        np.float64,
    )


def _bytes(found: Iterable[dict[str, Any]]) -> dict[str, int]:
    sizes: dict[str, list[int]] = defaultdict(list)
    for row in found:
        if row["bytes"]:
            sizes[row["dim"]].append(row["bytes"])
    return {dim: int(np.median(values)) for dim, values in sizes.items()}


def _optimizer(run: Run) -> Samples:
    steps = run.events(kinds=["optimizer"], columns=["duration"])["duration"].to_numpy()
    return steps.astype(np.float64) if len(steps) else _NO_TIME


def _assumed_reduction(model: StepModel) -> Samples:
    stage = sum(float(values.mean()) for (stage, _), values in model.durations.items() if not stage)
    return np.array([_REDUCTION_SHARE * stage * model.m])
