"""Gates for CI: `step_time>2%` holds unless B is worse than A by more, beyond chance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from dashboard.analysis.comparing.compare import Comparison
from tracer.errors import UsageError

_GATE: Final = re.compile(
    r"\s*(?P<metric>[a-z_:]+)\s*>\s*(?P<limit>\d+(\.\d+)?)\s*(?P<unit>%|ms|)\s*"
)


@dataclass(kw_only=True, slots=True, frozen=True)
class Gate:
    """`metric` must not grow by more than `limit`: a share of A's (`%`), ms, or of a ratio the
    difference itself (no unit).
    """

    metric: str
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"{self.metric}>{self.limit:g}{self.unit}"


def parse_gate(said: str) -> Gate:
    """`step_time>2%`, `comm:pp>1.5ms` or `bubble_ratio>0.02`.

    Raises:
        UsageError: it is none of these.
    """
    match = _GATE.fullmatch(said)
    if match is None:
        raise UsageError(
            f"--fail-on {said!r}: write WHAT>LIMIT, such as 'step_time>2%', 'comm:pp>1.5ms' or "
            "'bubble_ratio>0.02'"
        )
    return Gate(metric=match["metric"], limit=float(match["limit"]), unit=match["unit"])


def violation(comparison: Comparison, gate: Gate) -> str | None:
    """What to say where the gate fails: grown by more than its limit, and the metric's own 95 %
    interval leaves out zero.

    Raises:
        UsageError: no such metric, a unit that it does not have, or too few steps to judge.
    """
    row = _metric(comparison, gate)
    if row["low"] is None:
        raise UsageError(
            f"--fail-on '{gate}': {comparison.a} and {comparison.b} have too few steps to tell a "
            "difference from chance; record at least 3 steps"
        )
    if row["low"] <= 0:
        return None
    grown, unit = row["delta"], gate.unit and f" {gate.unit}"
    if gate.unit == "%":
        grown = 100 * grown / row["a"] if row["a"] else float("inf")
    if grown <= gate.limit:
        return None
    digits = 2 if gate.unit else 4
    return (
        f"{comparison.b}: {gate.metric} grew by {grown:.{digits}f}{unit}, more than "
        f"{gate.limit:g}{unit}"
    )


def _metric(comparison: Comparison, gate: Gate) -> dict[str, Any]:
    """Its row: a, b, delta, low, high, significant."""
    times = {_name(row["category"]): row for row in comparison.categories.to_pylist()}
    ratios: dict[str, dict[str, Any]] = {
        _name(row["ratio"]): row for row in comparison.ratios.to_pylist()
    }
    if gate.metric in ratios:
        if gate.unit == "ms":
            raise UsageError(f"--fail-on '{gate}': a ratio has no ms; write '{gate.metric}>0.02'")
        return ratios[gate.metric]
    if gate.metric not in times:
        known = ", ".join((*times, *ratios))
        raise UsageError(f"--fail-on '{gate}': no {gate.metric!r} here; there are {known}")
    if not gate.unit:
        raise UsageError(f"--fail-on '{gate}': of what? write {gate}% or {gate}ms")
    return {name.removesuffix("_ms"): value for name, value in times[gate.metric].items()}


def _name(shown: str) -> str:
    return shown.replace(" ", "_")
