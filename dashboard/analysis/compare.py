"""Compare two runs: from A's step time to B's, category by category, with intervals.

Both sides are means over matched ranks, per step. The interval of a difference is a bootstrap
95 % interval (percentile method, steps of each run drawn with replacement, unpaired, since step
n of one run has nothing to do with step n of another). Steps follow each other, so strongly
correlated steps make it somewhat too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dashboard.analysis.accounting import CATEGORIES, account
from dashboard.analysis.results import Result

if TYPE_CHECKING:
    from dashboard.runs import Recording

STEP_TIME: Final = "step time"
RESAMPLES: Final = 10_000
_RESAMPLES_AT_ONCE: Final = 500
"""Of 20,000 steps that takes 80 MB."""
_SEED: Final = 20_260_101
"""Fixed, so that the same two runs always give the same interval."""

_TABLE: Final = pa.schema(
    [
        ("category", pa.string()),
        ("a_ms", pa.float64()),
        ("b_ms", pa.float64()),
        ("delta_ms", pa.float64()),
        ("low_ms", pa.float64()),
        ("high_ms", pa.float64()),
    ]
)

Samples: TypeAlias = npt.NDArray[np.float64]
"""Shape (steps, 1 + categories), ms: the step time, then each category."""


@dataclass(kw_only=True, frozen=True)
class Comparison(Result):
    """B against A.

    categories: category, a_ms, b_ms, delta_ms = b - a, and the 95 % interval low_ms to high_ms
        of the difference, in ms per step; the first row is the step time, and the others add up
        to it.
    steps_a, steps_b: the steps that were compared; notes: what was matched, left out, or differs.
    """

    a: str
    b: str
    steps_a: tuple[int, ...]
    steps_b: tuple[int, ...]
    categories: pa.Table
    notes: tuple[str, ...]

    def significant(self, category: str = STEP_TIME) -> bool:
        """Whether the interval of that category's difference leaves out zero."""
        rows = {row["category"]: row for row in self.categories.to_pylist()}
        low, high = rows[category]["low_ms"], rows[category]["high_ms"]
        return low is not None and (low > 0 or high < 0)

    def relative(self) -> float | None:
        """The difference of the step time as a share of A's; None without steps."""
        total = self.categories.to_pylist()[0]
        return total["delta_ms"] / total["a_ms"] if total["a_ms"] else None

    def largest(self) -> str | None:
        """The category with the largest difference, up or down; None where nothing differs."""
        rows = [row for row in self.categories.to_pylist()[1:] if row["delta_ms"]]
        if not rows:
            return None
        found: str = max(rows, key=lambda row: abs(row["delta_ms"]))["category"]
        return found


def compare(a: Recording, b: Recording) -> Comparison:
    """The differences from run `a` to run `b`."""
    notes: list[str] = []
    steps_a, steps_b = _compared(a, notes), _compared(b, notes)
    key, said = _matching(a, b)
    notes += said
    common = _roles(a, key).keys() & _roles(b, key).keys()
    samples_a = _samples(a, steps_a, _roles(a, key), common)
    samples_b = _samples(b, steps_b, _roles(b, key), common)
    notes += _differences(a, b)
    return Comparison(
        a=a.name,
        b=b.name,
        steps_a=steps_a,
        steps_b=steps_b,
        categories=_categories(samples_a, samples_b),
        notes=tuple(notes),
    )


def _compared(run: Recording, notes: list[str]) -> tuple[int, ...]:
    """All complete steps but the first, in which buffers and connections are set up."""
    if len(run.steps) < 2:
        notes.append(f"{run.name} has {len(run.steps)} complete steps: no interval can be given")
        return run.steps
    notes.append(f"{run.name}: step {run.steps[0]} is left out as warm-up")
    return run.steps[1:]


_Key = Callable[["Recording", int], tuple[Any, ...]]


def _by_coordinates(run: Recording, rank: int) -> tuple[Any, ...]:
    return tuple(sorted(run.facts[rank].coordinates.items())) or (("rank", rank),)


def _by_stage(run: Recording, rank: int) -> tuple[Any, ...]:
    return run.facts[rank].stages


def _as_a_whole(run: Recording, rank: int) -> tuple[Any, ...]:
    return ()


def _matching(a: Recording, b: Recording) -> tuple[_Key, list[str]]:
    """How ranks of the two runs correspond, and what to say of it."""
    in_a, in_b = _roles(a, _by_coordinates), _roles(b, _by_coordinates)
    if in_a.keys() == in_b.keys():
        return _by_coordinates, []
    if a.meta.world_size == b.meta.world_size and in_a.keys() & in_b.keys():
        alone = len(in_a.keys() ^ in_b.keys())
        return _by_coordinates, [f"{alone} ranks are in one run only and left out"]
    if _roles(a, _by_stage).keys() == _roles(b, _by_stage).keys():
        return _by_stage, ["the meshes differ: ranks are matched by pipeline stage"]
    return _as_a_whole, ["the meshes and stages differ: the means over all ranks are compared"]


def _roles(run: Recording, key: _Key) -> dict[tuple[Any, ...], list[int]]:
    roles: dict[tuple[Any, ...], list[int]] = {}
    for rank in run.ranks:
        roles.setdefault(key(run, rank), []).append(rank)
    return roles


def _samples(
    run: Recording,
    steps: tuple[int, ...],
    roles: dict[tuple[Any, ...], list[int]],
    common: set[tuple[Any, ...]],
) -> Samples:
    """Per step the mean over roles of the mean over the role's ranks."""
    accounting = run.answer(account, steps)
    row = {step: i for i, step in enumerate(steps)}
    column = {category: 1 + i for i, category in enumerate(CATEGORIES)}
    weight = {rank: 1 / (len(common) * len(roles[role])) for role in common for rank in roles[role]}
    samples = np.zeros((len(steps), 1 + len(CATEGORIES)))
    for entry in accounting.table.to_pylist():
        if entry["rank"] in weight:
            ms = weight[entry["rank"]] * entry["duration"] / 1e6
            samples[row[entry["step"]], column[entry["category"]]] += ms
            samples[row[entry["step"]], 0] += ms
    return samples


def _categories(a: Samples, b: Samples) -> pa.Table:
    intervals = _intervals(a, b)
    rows: list[dict[str, Any]] = []
    for i, category in enumerate((STEP_TIME, *CATEGORIES)):
        if len(a) == 0 or len(b) == 0:
            rows.append({"category": category})
            continue
        mean_a, mean_b = float(a[:, i].mean()), float(b[:, i].mean())
        low, high = (None, None) if intervals is None else map(float, intervals[:, i])
        rows.append(
            {
                "category": category,
                "a_ms": mean_a,
                "b_ms": mean_b,
                "delta_ms": mean_b - mean_a,
                "low_ms": low,
                "high_ms": high,
            }
        )
    return pa.Table.from_pylist(rows, schema=_TABLE)


def _intervals(a: Samples, b: Samples) -> Samples | None:
    """Shape (2, columns): 2.5 and 97.5 percentiles of the resampled differences of means."""
    if len(a) < 2 or len(b) < 2:
        return None
    random = np.random.default_rng(_SEED)
    difference = _resampled(b, random) - _resampled(a, random)
    found: Samples = np.percentile(difference, [2.5, 97.5], axis=0)
    return found


def _resampled(samples: Samples, random: np.random.Generator) -> Samples:
    """Means of `RESAMPLES` draws with replacement, as counts times values; a part at a time."""
    steps = len(samples)
    chances = np.full(steps, 1 / steps)
    parts = [
        random.multinomial(steps, chances, size=_RESAMPLES_AT_ONCE) @ samples
        for _ in range(RESAMPLES // _RESAMPLES_AT_ONCE)
    ]
    return np.concatenate(parts) / steps


def _differences(a: Recording, b: Recording) -> list[str]:
    """What differs beside the numbers: schedule, configuration, versions."""
    notes = []
    for what, in_a, in_b in (
        ("world size", a.meta.world_size, b.meta.world_size),
        ("schedule", _schedule(a), _schedule(b)),
    ):
        if in_a != in_b:
            notes.append(f"{what}: {in_a} → {in_b}")
    for what in ("config", "versions"):
        of_a, of_b = getattr(a.meta, what), getattr(b.meta, what)
        for name in sorted(of_a.keys() | of_b.keys()):
            if of_a.get(name) != of_b.get(name):
                notes.append(f"{what} {name}: {_said(of_a.get(name))} → {_said(of_b.get(name))}")
    return notes


def _schedule(run: Recording) -> str:
    plan = run.meta.schedule
    return "none" if plan is None else f"{plan.name}, {plan.microbatches} microbatches"


def _said(value: Any) -> str:
    if value is None:
        return "(not set)"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
