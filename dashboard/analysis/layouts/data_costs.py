"""What reducing gradients over other numbers of data ranks would cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from dashboard.analysis.communication.latency_bandwidth import Line
from dashboard.analysis.communication.links import links
from dashboard.analysis.layouts.costs import fitting_line
from dashboard.analysis.operations import in_role, operations
from dashboard.analysis.replay.outside_of_plan import Outside
from dashboard.analysis.replay.step_model import StepModel

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, frozen=True)
class DataCosts:
    """The reduction of gradients between the steps of a plan.

    recorded_d: data ranks of the recording. gradients: bytes of all of the model's, as told;
    bytes: of one recorded operation (its median). line: its latency and bandwidth, where they
    were measured; hop: those of messages, which stand in where no reduction was recorded.
    """

    recorded_d: int
    gradients: float | None
    bytes: float
    line: Line | None
    hop: Line | None

    def outside(self, recorded: Outside, *, parts: int, recorded_parts: int, d: int) -> Outside:
        """Of a rank that holds one of `parts` parts of the model and reduces with d ranks, instead
        of one of `recorded_parts` with `recorded_d`. Loading data stays; the rest goes with the
        parameters that a rank holds, as an optimizer's time does.

        Of a ring, each rank sends 2 (d - 1) / d of its gradients (Patarasuk and Yuan 2009).
        """
        size = recorded_parts / parts
        rest = (recorded.whole - recorded.reduction - recorded.loading) * size + recorded.loading
        reduction = np.zeros_like(rest)
        if d > 1 and self.recorded_d > 1:
            reduction = recorded.reduction * self._longer(size, d)
        elif d > 1 and self.gradients is not None and self.hop is not None:
            hop = self.hop.predict_ns(self.gradients / parts / d)
            reduction += 2 * (d - 1) * (self.hop.median_ns if hop is None else hop)
        return Outside(whole=rest + reduction, reduction=reduction, loading=recorded.loading)

    def _longer(self, size: float, d: int) -> float:
        """How much longer it takes with `size` times the bytes and `d` ranks."""
        if self.line is not None:
            before = self.line.predict_ns(self.bytes, self.recorded_d)
            after = self.line.predict_ns(size * self.bytes, d)
            if before and after is not None:
                return after / before
        return size * ((d - 1) / d) / ((self.recorded_d - 1) / self.recorded_d)

    def assumed(self, d: int, is_split_as_recorded: bool) -> Iterator[str]:
        """What `outside` rests on beside the recording."""
        if not is_split_as_recorded:
            yield "work outside of the plan goes with the parameters of a rank"
        if d == 1 or (d == self.recorded_d and is_split_as_recorded):
            return
        if self.recorded_d > 1:
            if self.line is None:
                yield "gradients are reduced at the recorded bandwidth"
        elif self.gradients is None or self.hop is None:
            yield "the reduction of gradients is not included: none was recorded"
        else:
            yield "gradients are reduced in a ring of messages as fast as the recorded ones"


def data_costs(
    run: Recording, model: StepModel, *, d: int, gradients: float | None = None
) -> DataCosts:
    """Of a run with `d` data ranks; gradients: bytes of the whole model's."""
    found = links(run, model.steps)
    lines = (*found.lines, *found.calibrated)
    reductions = operations(run, model.steps)
    reductions = in_role(reductions, "dp")
    ops = reductions["op"].value_counts().to_pylist()
    op = max(ops, key=lambda found: found["counts"])["values"] if ops else None
    sizes = reductions.filter(pc.equal(reductions["op"], op or ""))["bytes"].drop_null().to_pylist()
    return DataCosts(
        recorded_d=d if ops else 1,
        gradients=gradients,
        bytes=float(median(sizes)) if sizes else 0.0,
        line=fitting_line(lines, "dp", op) if op else None,
        hop=next((line for line in lines if line.op == "p2p"), None),
    )
