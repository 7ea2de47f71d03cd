"""How long it takes to open a run and to work out each result, on a recorded sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks._figures import median_ns, show
from dashboard import Run, open_run

SAMPLES = Path(__file__).resolve().parents[1] / "sample_traces"
RUN = SAMPLES / "pp4-1f1b-slow-stage"
OTHER = SAMPLES / "pp4-1f1b-balanced"
REPEATS = 7

RESULTS: dict[str, Callable[[Run], object]] = {
    "events": lambda run: run.events(),
    "accounting": lambda run: run.accounting(),
    "bubbles": lambda run: run.bubbles(),
    "bandwidth": lambda run: run.bandwidth(),
    "compare": lambda run: run.compare(open_run(OTHER)),
    "sql": lambda run: run.sql("select kind, count(*) from events group by 1"),
}
"""Each is timed with the opening of the run, so that nothing comes from a cache."""


def main() -> None:
    """Print a figure per result, and how many events the run has."""
    show("reading.events_in_run", open_run(RUN).events().num_rows, "events", 1)
    show(
        "reading.ms_to_open", median_ns(lambda: open_run(RUN), samples=REPEATS) / 1e6, "ms", REPEATS
    )
    for name, result in RESULTS.items():
        taken = median_ns(lambda result=result: result(open_run(RUN)), samples=REPEATS)
        show(f"reading.ms_to_{name}", taken / 1e6, "ms", REPEATS)


if __name__ == "__main__":
    main()
