"""How often the intervals of `rankscope compare` hold: simulated steps whose truth is known.

    python -m benchmarks.compare --trials 2000

Two runs of n steps from the same AR(1) process with lag-1 correlation r, in `COLUMNS` categories:
prints the share of trials in which a category's own 95 % interval holds zero, and in which the
report marks no difference at all.
"""

from __future__ import annotations

from typing import Final

import click
import numpy as np

from benchmarks._figures import show
from dashboard.analysis.mean_difference import Samples, mean_difference

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


@click.command()
@click.option("--trials", default=20, show_default=True, type=click.IntRange(1))
def main(trials: int) -> None:
    """Print both shares for each number of steps and each correlation."""
    for n in STEPS:
        for r in CORRELATIONS:
            own, silent = coverage(n, r, trials)
            show(f"compare.own_interval_holds.n{n}.r{r:g}", 100 * own, "%", trials)
            show(f"compare.nothing_marked.n{n}.r{r:g}", 100 * silent, "%", trials)


if __name__ == "__main__":
    main()
