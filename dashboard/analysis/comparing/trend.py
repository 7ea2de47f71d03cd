"""Several runs in a row: each one's step time, and each against the first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from dashboard.analysis.comparing.compare import Comparison, compare, step_samples
from dashboard.analysis.comparing.compared_steps import warm_steps
from dashboard.analysis.comparing.mean_difference import mean_difference
from dashboard.analysis.comparing.questions import Questions, questions
from dashboard.analysis.results import Result
from dashboard.analysis.run_names import distinct_names

if TYPE_CHECKING:
    from dashboard.runs import Recording

_TABLE: Final = pa.schema(
    [
        ("run", pa.string()),
        ("steps", pa.int32()),
        ("step_ms", pa.float64()),
        ("low_ms", pa.float64()),
        ("high_ms", pa.float64()),
        ("delta_ms", pa.float64()),
        ("delta_low_ms", pa.float64()),
        ("delta_high_ms", pa.float64()),
        ("significant", pa.bool_()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class Trend(Result):
    """Runs in the order given.

    table: run, steps (how many, without warm-up), step_ms with its 95 % interval low_ms to high_ms;
        delta_ms to the first run with its own 95 % interval, and whether it is significant, all
        rows of all comparisons taken together; these are null for the first run.
    comparisons: each other run against the first.
    """

    table: pa.Table
    comparisons: tuple[Comparison, ...]


def trend(
    runs: Sequence[Recording],
    steps: Collection[int] | None = None,
    *,
    repeats: Sequence[Recording] = (),
    relevant: float | None = None,
) -> Trend:
    """Compare each of `runs` (two or more) with the first, in all steps or those of `steps`.

    repeats: more recordings of what the first run records; relevant: the share of the step from
        which on differences are marked. See `compare`.
    """
    first, *others = runs
    first_name, *names = distinct_names(runs)
    asked = questions(runs, steps, repeats=repeats)
    comparisons = tuple(
        compare(
            first,
            run,
            steps,
            repeats=repeats,
            relevant=relevant,
            families=len(others),
            names=(first_name, name),
            asked=asked,
        )
        for run, name in zip(others, names, strict=True)
    )
    rows = [_alone(first, first_name, steps, asked)]
    for run, comparison in zip(others, comparisons, strict=True):
        total = comparison.categories.to_pylist()[0]
        rows.append(
            _alone(run, comparison.b, steps, asked)
            | {
                "delta_ms": total["delta_ms"],
                "delta_low_ms": total["low_ms"],
                "delta_high_ms": total["high_ms"],
                "significant": total["significant"],
            }
        )
    return Trend(table=pa.Table.from_pylist(rows, schema=_TABLE), comparisons=comparisons)


def _alone(
    run: Recording, name: str, steps: Collection[int] | None, asked: Questions
) -> dict[str, Any]:
    """The interval of one mean is that of its difference from a run that takes no time."""
    chosen = warm_steps(run, steps)
    row: dict[str, Any] = {"run": name, "steps": len(chosen)}
    if not chosen:
        return row
    samples = step_samples(run, chosen, asked)
    mean = float(samples.mean())
    found = mean_difference(np.zeros_like(samples), samples)
    if found is None:
        return row | {"step_ms": mean}
    half = float(found.half[0])
    return row | {"step_ms": mean, "low_ms": mean - half, "high_ms": mean + half}
