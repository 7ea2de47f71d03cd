"""How often the intervals of `rankscope compare` hold, where the truth is no difference.

    python -m benchmarks.compare --trials 2000 --repeats 12 [--out DIRECTORY]

Simulated: two runs of n steps from the same AR(1) process with lag-1 correlation r, in `COLUMNS`
categories: the share of trials in which a category's own 95 % interval holds zero, and in which the
report marks no difference at all.

Recorded: the same training again and again (two stages, whose work is sleeping). All pairs of the
recordings, pairs of one and the next, the two halves of each, and each against all others as
repeats: the share of reports that mark nothing, and of step times whose own interval holds zero.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Final

import click
import numpy as np

from benchmarks._figures import show
from dashboard import Run, open_run
from dashboard.analysis.comparing.compare import Comparison
from dashboard.analysis.comparing.mean_difference import Samples, mean_difference
from tests.support.launching import ROOT, record

STEPS: Final = (8, 15, 50)
CORRELATIONS: Final = (0.0, 0.5)
COLUMNS: Final = 10
_SEED: Final = 20_261_123
_RUN_IN: Final = 50
"""Steps until an AR(1) process of r = 0.5 has forgotten its start: 0.5^50 = 1e-15."""


def steps_of(n: int, r: float, columns: int, random: np.random.Generator) -> Samples:
    """n steps of `columns` independent AR(1) processes about 100; shape (n, columns)."""
    noise = random.normal(0, 1, (n + _RUN_IN, columns))
    found = np.empty_like(noise)
    found[0] = noise[0]
    for step in range(1, len(noise)):
        found[step] = r * found[step - 1] + noise[step]
    return 100 + found[_RUN_IN:]


def coverage(n: int, r: float, trials: int, columns: int = COLUMNS) -> tuple[float, float]:
    """Shares of trials: one category's interval holds zero; nothing at all is marked."""
    random = np.random.default_rng(_SEED)
    own = silent = 0.0
    for _ in range(trials):
        found = mean_difference(steps_of(n, r, columns, random), steps_of(n, r, columns, random))
        assert found is not None
        own += float((np.abs(found.delta) <= found.half).mean())
        silent += not found.significant().any()
    return own / trials, silent / trials


def recorded(place: Path, repeats: int, steps: int, work_ms: float) -> list[Run]:
    """Record the example `repeats` times, one after the other, less what `place` has."""
    script = ROOT / "examples" / "train_pipeline.py"
    arguments = ("--microbatches", "4", "--steps", str(steps), "--work-ms", str(work_ms))
    places = [place / f"{number:02}" for number in range(repeats)]
    for path in places:
        if not path.exists():
            record(path, script, arguments, processes=2)
    return [open_run(path) for path in places]


def halves(run: Run, *, relevant: float | None = None) -> Comparison:
    """The first half of a run's steps against the second one; a step is left out before each."""
    middle = len(run.steps) // 2
    first, second = open_run(run.path), open_run(run.path)
    first.steps, second.steps = run.steps[:middle], run.steps[middle:]
    return first.compare(second, relevant=relevant)


def against_the_others(runs: Sequence[Run], number: int) -> Comparison:
    """One recording against the mean of all others."""
    first, *repeats = (run for other, run in enumerate(runs) if other != number)
    return first.compare(runs[number], repeats=repeats)


def marks_nothing(comparison: Comparison) -> bool:
    """Whether nothing in the report is marked."""
    tables = (comparison.categories, comparison.operations, comparison.ratios)
    return not any(any(table["significant"].to_pylist()) for table in tables)


def _show_recorded(runs: Sequence[Run]) -> None:
    ways: dict[str, Iterable[Comparison]] = {
        "all_pairs": (a.compare(b) for a, b in combinations(runs, 2)),
        "neighbours": (a.compare(b) for a, b in pairwise(runs)),
        "halves": map(halves, runs),
        "against_repeats": (against_the_others(runs, number) for number in range(len(runs))),
    }
    for way, comparisons in ways.items():
        found = list(comparisons)
        silent = sum(map(marks_nothing, found))
        totals = [comparison.categories.to_pylist()[0] for comparison in found]
        own = sum(total["low_ms"] <= 0 <= total["high_ms"] for total in totals)
        show(f"compare.recorded_{way}.nothing_marked", 100 * silent / len(found), "%", len(found))
        show(f"compare.recorded_{way}.own_interval_holds", 100 * own / len(found), "%", len(found))


@click.command()
@click.option("--trials", default=5, show_default=True, type=click.IntRange(1))
@click.option("--repeats", default=0, show_default=True, type=click.IntRange(0), help="At least 2.")
@click.option("--steps", default=24, show_default=True, type=click.IntRange(8))
@click.option("--work-ms", default=10.0, show_default=True, type=float)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Keep recordings, and use those there."
)
def main(trials: int, repeats: int, steps: int, work_ms: float, out: Path | None) -> None:
    """Print the shares for each number of steps and each correlation, and of recorded repeats."""
    for n in STEPS:
        for r in CORRELATIONS:
            own, silent = coverage(n, r, trials)
            show(f"compare.own_interval_holds.n{n}.r{r:g}", 100 * own, "%", trials)
            show(f"compare.nothing_marked.n{n}.r{r:g}", 100 * silent, "%", trials)
    if repeats > 1:
        with tempfile.TemporaryDirectory() as place:
            _show_recorded(recorded(out or Path(place), repeats, steps, work_ms))


if __name__ == "__main__":
    main()
