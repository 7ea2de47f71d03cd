"""Compare two runs: from A's step time to B's, by category and operation, with intervals.

Both sides are means over matched ranks (corresponding_ranks.py) and over steps. A difference has
two verdicts: its own 95 % interval (mean_difference.py), and whether it is *marked*. Of runs whose
steps come from the same process, at most 5 % have a mark anywhere in the report:

- step time, categories and the bubble ratio are one family, whose intervals hold together;
- operations are another one, and are marked only where their category is.

Nor is a category marked that changed by less than a share of the step (`RELEVANT`): steps of two
recordings cannot tell what differs each time that a job is started.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dashboard.analysis.comparing.communication_differences import (
    communicated,
    communication_differences,
)
from dashboard.analysis.comparing.compared_steps import pick_steps, steps_of_repeat
from dashboard.analysis.comparing.compared_sums import ComparedSums, strata
from dashboard.analysis.comparing.corresponding_ranks import Matching, Weights, match
from dashboard.analysis.comparing.mean_difference import (
    FEWEST_STEPS,
    MeanDifference,
    Samples,
    block_length,
    difference_from_repeats,
    mean_difference,
)
from dashboard.analysis.comparing.questions import Question, Questions, questions
from dashboard.analysis.comparing.run_differences import Difference, run_differences
from dashboard.analysis.pipeline.bubble_ratios import bubble_ratios
from dashboard.analysis.results import Result
from dashboard.analysis.run_names import distinct_names
from dashboard.analysis.sums_by_step import Key
from dashboard.analysis.time_spent.claims import CATEGORIES
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.runs import Recording

STEP_TIME: Final = "step time"
BUBBLE_RATIO: Final = "bubble ratio"
RELEVANT: Final = 0.02
"""Share of A's step time from which on a difference of two recordings is marked. Recordings of one
job on one machine differed by 0.8 % (standard deviation, docs/measurements/compare.md): of pairs,
one in twenty by more than 2 %."""
RELEVANT_BEYOND_REPEATS: Final = 0.005
"""The same where recordings of A say themselves how much they differ."""

_NUMBERS: Final = [
    ("a_ms", pa.float64()),
    ("b_ms", pa.float64()),
    ("delta_ms", pa.float64()),
    ("low_ms", pa.float64()),
    ("high_ms", pa.float64()),
    ("significant", pa.bool_()),
]
_OPERATION: Final = ("category", "kind", "name", "stage")
_NS_PER_MS: Final = 1e6
_CATEGORIES: Final = pa.schema([("category", pa.string()), *_NUMBERS])
_OPERATIONS: Final = pa.schema(
    [
        ("category", pa.string()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("stage", pa.int32()),
        *_NUMBERS,
    ]
)
_RATIOS: Final = pa.schema(
    [("ratio", pa.string())] + [(name.removesuffix("_ms"), kind) for name, kind in _NUMBERS]
)


@dataclass(kw_only=True, frozen=True)
class Comparison(Result):
    """B against A.

    categories: category, a_ms, b_ms, delta_ms = b - a, its own 95 % interval low_ms to high_ms,
        and whether it is significant, all rows taken together; in ms per step. The first row is
        the step time, and the others add up to it.
    operations: category, kind, name, stage, and the same numbers; they add up to the step time too
        (stage is null where stages do not correspond). The largest difference first.
    ratios: ratio, a, b, delta, low, high, significant: the bubble's fraction of the pipeline
        window; no row where a run has no pipeline.
    relevant: the share of A's step time (of the window, for ratios) from which on a difference
        counts as significant.
    steps_a, steps_b: the steps that were compared. differences: in what the runs were told to
        do, and in what they communicated. notes: how they were matched, and what was left out.
    """

    a: str
    b: str
    relevant: float
    steps_a: tuple[int, ...]
    steps_b: tuple[int, ...]
    categories: pa.Table
    operations: pa.Table
    ratios: pa.Table
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def significant(self, category: str = STEP_TIME) -> bool:
        """Whether that category's difference is beyond chance."""
        rows = {row["category"]: row for row in self.categories.to_pylist()}
        return bool(rows[category]["significant"])

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


def compare(
    a: Recording,
    b: Recording,
    steps: Collection[int] | None = None,
    *,
    repeats: Sequence[Recording] = (),
    relevant: float | None = None,
    families: int = 1,
    names: tuple[str, str] | None = None,
    asked: Questions | None = None,
) -> Comparison:
    """The differences from run `a` to run `b`, in all steps or those of `steps`.

    repeats: more recordings of what `a` records. With them, A is the mean of all its recordings,
        and chance is what these differ by, instead of what steps differ by.
    relevant: see `Comparison`; `RELEVANT` by default, `RELEVANT_BEYOND_REPEATS` with repeats.
    families: of how many comparisons this is one, so that all of them together mark something by
        chance in at most 5 % of cases.
    names: of `a` and `b`, if not those that tell the two apart.
    asked: the `questions` of all comparisons of which this is one.

    Raises:
        UsageError: the same recording is given as two repeats.
    """
    _once_each((a, *repeats), b)
    name_a, name_b = names or distinct_names((a, b))
    notes = [*_of_damage(a, name_a), *_of_damage(b, name_b)]
    steps_a, steps_b, said = pick_steps((a, name_a), (b, name_b), steps)
    matching = match(a, b)
    notes += [*said, *filter(None, [matching.note])]
    for name, chosen in ((name_a, steps_a), (name_b, steps_b)):
        if len(chosen) < FEWEST_STEPS:
            notes.append(f"{name} has {len(chosen)} steps to compare: no interval can be given")
    asked = questions((a, b), steps, repeats=repeats) if asked is None else asked
    for run in (a, *repeats, b):
        asked[run].of(run)  # it is kept there: no answer lies beside the work for another
    sides = _Sides(
        a=[
            _side(run, steps_of_repeat(run, steps_a), match(run, b).a, asked)
            for run in (a, *repeats)
        ],
        b=_side(b, steps_b, matching.b, asked),
        relevant=(RELEVANT_BEYOND_REPEATS if repeats else RELEVANT)
        if relevant is None
        else relevant,
        families=families,
    )
    headline = _headlines(sides)
    categories = [
        {"category": name} | row
        for name, row in zip((STEP_TIME, *CATEGORIES), headline, strict=False)
    ]
    ratios = [
        {"ratio": BUBBLE_RATIO} | {name.removesuffix("_ms"): value for name, value in row.items()}
        for row in headline[_TIMES:]
    ]
    marked = {row["category"] for row in categories if row.get("significant")}
    return Comparison(
        a=name_a,
        b=name_b,
        relevant=sides.relevant,
        steps_a=steps_a,
        steps_b=steps_b,
        categories=pa.Table.from_pylist(categories, schema=_CATEGORIES),
        operations=_operations(sides, matching, marked),
        ratios=pa.Table.from_pylist(ratios, schema=_RATIOS),
        differences=(
            *run_differences(a, b),
            *_communication_differences(sides.a[0], sides.b),
        ),
        notes=(*notes, *_of_the_intervals(steps_a, steps_b, len(repeats)), *_of_marks(sides)),
    )


@dataclass(kw_only=True, slots=True, frozen=True)
class _Side:
    """A recording, its steps, its sums, and by stratum of these what a rank weighs."""

    run: Recording
    steps: Sequence[int]
    sums: ComparedSums
    weights: Mapping[int, float]


@dataclass(kw_only=True, slots=True, frozen=True)
class _Sides:
    """What is compared: A and its repeats, and B."""

    a: Sequence[_Side]
    b: _Side
    relevant: float
    families: int

    def rows(
        self, samples: Sequence[Samples], whole: float | npt.NDArray[np.float64]
    ) -> list[dict[str, Any]]:
        """One per column of `samples`, those of A's recordings and then B's; `whole`: that which
        a relevant difference is a share of (0: every one is).
        """
        *of_a, of_b = samples
        if any(len(found) == 0 for found in samples):
            return [{} for _ in range(of_b.shape[1])]
        a, found = of_a[0], None
        if len(of_a) == 1:
            found = mean_difference(a, of_b, families=self.families)
        else:
            a = np.array([found.mean(axis=0) for found in of_a])
            found = difference_from_repeats(a, of_b.mean(axis=0), families=self.families)
        rows = _rows(a, of_b, found)
        for row, least in zip(rows, np.broadcast_to(self.relevant * whole, len(rows)), strict=True):
            row["significant"] = row["significant"] and abs(row["delta_ms"]) >= least
        return rows


_TIMES: Final = 1 + len(CATEGORIES)
"""Columns of a headline that are times; the bubble ratio follows where there is a pipeline."""


def step_samples(run: Recording, steps: Sequence[int], asked: Questions | None = None) -> Samples:
    """Step times, the mean over the ranks, ms; shape (steps, 1)."""
    everyone = dict.fromkeys(run.ranks, 1 / len(run.ranks))
    if asked is None:
        asked = {run: Question(sums=strata(run.ranks, []), steps=tuple(steps))}
    return _times(_side(run, steps, everyone, asked))[:, :1]


def _side(run: Recording, steps: Sequence[int], weights: Weights, asked: Questions) -> _Side:
    question = asked[run]
    return _Side(
        run=run, steps=steps, sums=question.of(run), weights=question.sums.weights(weights)
    )


def _once_each(repeats: Sequence[Recording], b: Recording) -> None:
    """A recording that counts twice, or on both sides, says nothing of how recordings differ."""
    if len(repeats) == 1:
        return
    paths = [run.path.resolve() for run in (*repeats, b)]
    for n, path in enumerate(paths):
        if path in paths[:n]:
            raise UsageError(
                f"{path}: given twice; repeats must be recordings of their own, other than A and B"
            )


def _of_damage(run: Recording, name: str) -> list[str]:
    """Part of a run may be missing: its numbers are of the rest."""
    if not run.problems:
        return []
    more = len(run.problems) - 1
    rest = f", and {more} more" if more else ""
    return [f"{name}: {run.problems[0]}{rest}; what is readable is compared (see rankscope check)"]


def _of_the_intervals(a: Sequence[int], b: Sequence[int], repeats: int) -> tuple[str, ...]:
    if repeats:
        return (
            f"A is the mean of {repeats + 1} recordings; 95 % intervals: what B may differ from "
            "them if recordings of B vary as they do",
        )
    if min(len(a), len(b)) < FEWEST_STEPS:
        return ()
    blocks = " and ".join(str(n) for n in dict.fromkeys(block_length(len(s)) for s in (a, b)))
    return (
        f"95 % intervals: bootstrap of blocks of {blocks} steps; they tell steps of these two "
        "recordings apart, not what differs each time a job is started (see --repeat)",
    )


def _of_marks(sides: _Sides) -> tuple[str, ...]:
    if not sides.relevant:
        return ()
    least = f"{100 * sides.relevant:.3g} %"
    return (
        f"marked (*) is what is beyond chance, all rows taken together, and {least} of A's step or "
        "more (--least)",
    )


def _headlines(sides: _Sides) -> list[dict[str, Any]]:
    """Rows of the step time, the categories (ms), and the bubble ratio where all have one."""
    every = (*sides.a, sides.b)
    samples = [_times(side) for side in every]
    found = [bubble_ratios(side.run, side.sums.pipelines, side.steps) for side in every]
    known = [ratio for ratio in found if ratio is not None]
    if len(known) == len(every):
        samples = [np.column_stack(pair) for pair in zip(samples, known, strict=True)]
    if any(len(found) == 0 for found in samples):
        return sides.rows(samples, 1.0)
    whole = np.ones(samples[0].shape[1])
    whole[:_TIMES] = np.mean([found[:, 0].mean() for found in samples[:-1]])
    return sides.rows(samples, whole)


def _times(side: _Side) -> Samples:
    """Weighted means over ranks, ms; shape (steps, 1 + categories)."""
    samples = _samples(side, [(name,) for name in CATEGORIES], lambda key: key[:1])
    return np.column_stack([samples.sum(axis=1), samples])


def _operations(sides: _Sides, matching: Matching, marked: Collection[str]) -> pa.Table:
    def operation(key: Key) -> Key:
        return key if matching.same_stages else (*key[:-1], None)

    every = (*sides.a, sides.b)
    keys = sorted({operation(key) for side in every for key in _with_time(side)}, key=str)
    if not keys:
        return _OPERATIONS.empty_table()
    samples = [_samples(side, keys, operation) for side in every]
    rows = [
        dict(zip(_OPERATION, key, strict=True)) | row
        for key, row in zip(keys, sides.rows(samples, 0.0), strict=True)
        if row.get("a_ms") or row.get("b_ms")
    ]
    for row in rows:
        row["significant"] = row["significant"] and row["category"] in marked
    rows.sort(key=lambda row: -abs(row["delta_ms"]))
    return pa.Table.from_pylist(rows, schema=_OPERATIONS)


def _with_time(side: _Side) -> Iterator[Key]:
    """Category, kind, name and stage of what took time in the steps of a side."""
    time = side.sums.time
    took = np.flatnonzero(time.within(side.steps).any(axis=1))
    yield from (time.keys[row][1:] for row in took.tolist())


def _samples(side: _Side, keys: Sequence[Key], key_of: Callable[[Key], Key]) -> Samples:
    """Weighted means over ranks, ms; shape (steps, keys). key_of: of category, kind, name and
    stage, the one of `keys` that they count for.
    """
    time = side.sums.time
    place = {key: number for number, key in enumerate(keys)}
    values = time.within(side.steps)
    samples = np.zeros((len(side.steps), len(keys)))
    for (stratum, *operation), row in zip(time.keys, values, strict=True):
        key = key_of(tuple(operation))
        if key in place:
            samples[:, place[key]] += side.weights[stratum] / _NS_PER_MS * row
    return samples


def _communication_differences(a: _Side, b: _Side) -> tuple[Difference, ...]:
    if not a.steps or not b.steps:
        return ()
    return communication_differences(
        *(communicated(side.sums.calls, side.steps, len(side.run.ranks)) for side in (a, b))
    )


def _rows(a: Samples, b: Samples, found: MeanDifference | None) -> list[dict[str, Any]]:
    """One per column; without interval where nothing was `found`."""
    deltas = b.mean(axis=0) - a.mean(axis=0) if found is None else found.delta
    rows: list[dict[str, Any]] = []
    for i, delta in enumerate(deltas):
        row = {"a_ms": a[:, i].mean(), "b_ms": b[:, i].mean(), "delta_ms": delta}
        row = {name: float(value) for name, value in row.items()}
        if found is not None:
            half = float(found.half[i])
            row |= {"low_ms": row["delta_ms"] - half, "high_ms": row["delta_ms"] + half}
        rows.append(row | {"significant": found is not None and bool(found.significant()[i])})
    return rows
