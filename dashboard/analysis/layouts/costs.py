"""What the actions of a recorded run are made of: compute, and tensor-parallel communication."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Final

import pyarrow.compute as pc

from dashboard.analysis.communication.latency_bandwidth import Line
from dashboard.analysis.communication.links import links
from dashboard.analysis.device_view import as_devices_ran
from dashboard.analysis.dimensions import Role, role_of
from dashboard.analysis.operations import in_role, operations
from dashboard.analysis.pipeline.actions import pipeline_actions
from dashboard.analysis.replay.graph import dependency_graph
from dashboard.analysis.replay.step_model import StepModel

if TYPE_CHECKING:
    from dashboard.runs import Recording

Key = tuple[int, str]
"""(stage, kind of action)."""

_GOOD_FIT: Final = 0.25
"""Median relative error of a line from which times are predicted: worse ones say little."""
REDUCTIONS_PER_LAYER: Final = 2
"""All-reduces of the activation per layer and direction in a transformer that is split as in
Megatron-LM (Shoeybi et al., arXiv 1909.08053, section 3): one of the attention, one of the MLP."""


@dataclass(kw_only=True, frozen=True)
class ActionCosts:
    """Means per action, ns: the whole action, and the compute in it."""

    whole: Mapping[Key, float]
    compute: Mapping[Key, float]


@dataclass(kw_only=True, frozen=True)
class TensorCosts:
    """Tensor-parallel communication inside actions.

    count: operations per action. recorded_t: ranks that shared the recorded work; 1: none did.
    recorded_ns: of each operation, all that it cost the action. line: its latency and bandwidth,
    where they were measured; hop: those of messages, which stand in where they were not.
    bytes: of each operation.
    """

    count: Mapping[Key, float]
    recorded_t: int
    recorded_ns: float
    bytes: float
    line: Line | None
    hop: Line | None

    def each_ns(self, t: int, cut: int = 1) -> float:
        """What an operation costs with `t` ranks and a `cut`-th of the bytes.

        As recorded for the recorded t; else of a ring all-reduce (2 (t-1) hops of bytes / t each,
        Patarasuk and Yuan 2009) by the fitted line, by the fit of messages, or in proportion to
        the hops. What a host needs for it beside is taken to stay; without a line fewer bytes
        take as long.
        """
        if t <= 1:
            return 0.0
        if t == self.recorded_t and cut == 1:
            return self.recorded_ns
        if self.recorded_t > 1:
            if self.line is not None:
                before = self.line.predict_ns(self.bytes, self.recorded_t)
                after = self.line.predict_ns(self.bytes / cut, t)
                if before is not None and after is not None:
                    return max(0.0, self.recorded_ns + after - before)
            return self.recorded_ns * (t - 1) / (self.recorded_t - 1)
        if self.hop is None:
            return 0.0
        hop = self.hop.predict_ns(self.bytes / cut / t)
        return 2 * (t - 1) * (self.hop.median_ns if hop is None else hop)

    def assumed(self, t: int) -> Iterator[str]:
        """What `each_ns(t)` rests on beside the recording."""
        if t <= 1 or t == self.recorded_t:
            return
        if self.recorded_t > 1:
            if self.line is None or self.line.alpha_ns is None:
                yield "a tp operation takes as much longer as its ring has more hops"
            else:
                yield "the latency of a tp operation does not change with its ranks"
        elif self.hop is None or not any(self.count.values()):
            yield "tp communication is not included: none was recorded"
        else:
            yield "tp communication is a ring of messages as fast as the recorded ones"


def action_costs(run: Recording, model: StepModel) -> ActionCosts:
    """What the actions of the model's stages are made of, in the model's steps."""
    graph = run.answer(dependency_graph, model.steps)
    compute = graph.pieces.filter(pc.equal(graph.pieces["category"], "compute"))
    grouped = compute.group_by(["stage", "kind"]).aggregate([("duration", "sum")])
    actions = pipeline_actions(run, graph.steps)
    count: dict[Key, int] = defaultdict(int)
    for found in actions.values():
        for action in found:
            count[action.stage, action.kind] += 1
    spent = {(row["stage"], row["kind"]): row["duration_sum"] for row in grouped.to_pylist()}
    return ActionCosts(
        whole={key: fmean(samples.tolist()) for key, samples in model.durations.items()},
        compute={key: spent.get(key, 0) / count[key] for key in model.durations},
    )


def tensor_costs(
    run: Recording,
    costs: ActionCosts,
    *,
    layers: int | None = None,
    steps: Collection[int] | None = None,
) -> TensorCosts:
    """The tensor-parallel communication of the run; `layers` of the whole model, where there is
    none, for the operations that it would have.
    """
    tensor = operations(as_devices_ran(run), steps)
    messages = tensor.filter(pc.equal(tensor["op"], "recv"))
    tensor = in_role(tensor, "tp")
    found = links(run, steps)
    lines = (*found.lines, *found.calibrated)
    hop = next((line for line in lines if line.op == "p2p"), None)
    if not tensor.num_rows:
        stages = len({stage for stage, _ in costs.whole})
        each = REDUCTIONS_PER_LAYER * layers / stages if layers else 0.0
        size = messages["bytes"].drop_null().to_pylist()
        counts = {
            key: each * (0.5 if key[1] in ("backward_input", "backward_weight") else 1.0)
            for key in costs.whole
        }
        return TensorCosts(
            count=counts, recorded_t=1, recorded_ns=0.0, line=None, hop=hop,
            bytes=float(median(size)) if size else 0.0,
        )  # fmt: skip
    count = _per_action(run, tensor.to_pylist(), steps)
    inside = {key: costs.whole[key] - costs.compute[key] for key in costs.whole}
    total = sum(count.get(key, 0.0) for key in inside)
    most = tensor["op"].value_counts().to_pylist()
    op = max(most, key=lambda found: found["counts"])["values"]
    sizes = tensor.filter(pc.equal(tensor["op"], op))["bytes"].drop_null().to_pylist()
    groups = [group for facts in run.facts.values() for group in facts.groups.values()]
    sharing = max((len(group.ranks) for group in groups if role_of(group.dim) == "tp"), default=2)
    return TensorCosts(
        count={key: count.get(key, 0.0) for key in inside},
        recorded_t=sharing,
        recorded_ns=sum(inside.values()) / total if total else 0.0,
        bytes=float(median(sizes)) if sizes else 0.0,
        line=fitting_line(lines, "tp", op),
        hop=hop,
    )


def fitting_line(lines: Sequence[Line], role: Role, op: str) -> Line | None:
    """That of a group of that role that fits well, the run's own before a calibrated one."""
    fitting = [line for line in lines if role_of(line.dim) == role and line.op == op]
    told = (line for line in fitting if line.error is not None and line.error <= _GOOD_FIT)
    return next(told, None)


def _per_action(
    run: Recording, tensor: list[dict[str, int]], steps: Collection[int] | None
) -> dict[Key, float]:
    """Operations that begin inside an action, per action."""
    wanted = run.steps if steps is None else steps
    by_rank: dict[int, list[tuple[int, int, Key]]] = defaultdict(list)
    count: dict[Key, int] = defaultdict(int)
    for actions in pipeline_actions(run, wanted).values():
        for action in actions:
            key = action.stage, action.kind
            by_rank[action.rank].append((action.start, action.end, key))
            count[key] += 1
    for found in by_rank.values():
        found.sort()
    starts = {rank: [start for start, _, _ in found] for rank, found in by_rank.items()}
    inside: dict[Key, int] = defaultdict(int)
    for row in tensor:
        spans = by_rank.get(row["rank"], [])
        place = bisect_right(starts.get(row["rank"], []), row["start"]) - 1
        if place >= 0:
            _, end, key = spans[place]
            inside[key] += row["start"] < end
    return {key: inside[key] / number for key, number in count.items()}
