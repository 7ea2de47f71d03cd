"""`Run`: a recorded run and the questions that one can ask it, each answered by one analysis."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboard.runs import Recording, open_anywhere
from tracer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from dashboard.analysis.communication.bandwidth import Bandwidth
    from dashboard.analysis.comparing.compare import Comparison
    from dashboard.analysis.memory.memory import Memory
    from dashboard.analysis.pipeline.bubbles import Bubbles
    from dashboard.analysis.replay.critical_path import CriticalPath
    from dashboard.analysis.replay.scenarios import Scenario
    from dashboard.analysis.replay.whatif import WhatIf
    from dashboard.analysis.stragglers.stragglers import Stragglers
    from dashboard.analysis.time_spent.accounting import Accounting
    from dashboard.analysis.time_spent.kernel_breakdown import KernelBreakdown
    from dashboard.analysis.time_spent.temporal_breakdown import TemporalBreakdown
    from dashboard.figures.of_run import Figures
    from dashboard.sql import QueryResult


def open_run(
    path: str | os.PathLike[str], *, advance: Callable[[int], object] = lambda count: None
) -> Run:
    """Open the run in directory `path`, or at an address on an object store: `s3://bucket/run`.

    What is damaged or missing is left out and named in `run.problems`.

    advance: is told how many bytes have arrived from a store.

    Raises:
        UsageError: the address makes no sense.
        TraceError: there is no such directory, it holds no run, or it mixes several runs; or the
            store cannot be read.
        NewerFormat: a newer Rankscope wrote it.
    """
    return open_anywhere(path, Run, advance=advance)


class Run(Recording):
    """A recording (`run.events`, `run.steps`, `run.meta`, …) that answers questions."""

    def _repr_html_(self) -> str:
        """For notebooks: what was recorded, and where its time goes."""
        from dashboard.analysis.whole_run.run_html import run_html

        return run_html(self)

    def to_arrow(self, view: str = "events") -> pa.Table:
        """A view of the run as SQL has it: `events`, `steps`, `accounting`, `collectives`, `p2p`,
        `counters` or `ranks`.

        Raises:
            UsageError: there is no such view.
        """
        from dashboard.analysis.whole_run.views import VIEWS

        if view not in VIEWS:
            raise UsageError(f"{view!r} is not a view; there are: {', '.join(VIEWS)}")
        return VIEWS[view](self)

    def to_pandas(self, view: str = "events") -> Any:
        """The same as a pandas DataFrame (needs pandas)."""
        return self.to_arrow(view).to_pandas()

    def to_polars(self, view: str = "events") -> Any:
        """The same as a polars DataFrame (needs polars)."""
        import polars

        return polars.from_arrow(self.to_arrow(view))

    @property
    def figures(self) -> Figures:
        """The figures of the dashboard, for notebooks: `run.figures.timeline(step=12)`."""
        from dashboard.figures.of_run import Figures

        return Figures(self)

    def sql(self, query: str) -> QueryResult:
        """Ask in SQL (DuckDB) over the views `events`, `steps`, `accounting`, `collectives`,
        `p2p`, `counters` and `ranks`; read-only, without access to files or network.

        Raises:
            UsageError: the query is wrong, forbidden, or over its limits.
        """
        from dashboard.sql import query as ask

        return ask(self, query)

    def export(
        self,
        to: str,
        out: str | os.PathLike[str],
        *,
        ranks: Collection[int] | None = None,
        steps: Collection[int] | None = None,
        tables: Collection[str] = (),
    ) -> Path:
        """Write the run, or some ranks and steps of it, for other tools; returns where it is.

        to: `perfetto`, `chrome`, `parquet`, `csv`, `tensorboard` or `wandb`; tables: views, of
            parquet and csv.

        Raises:
            UsageError: no such format, rank or table; a package is missing; or `out` cannot be
                written.
        """
        from dashboard.export.formats import export

        export(self, to, Path(out), ranks=ranks, steps=steps, tables=tables)
        return Path(out)

    def accounting(self, steps: Collection[int] | None = None) -> Accounting:
        """Where each rank's time went, by category, closing to 100 % of each step."""
        from dashboard.analysis.time_spent.accounting import account

        return self.answer(account, steps)

    def bubbles(self, steps: Collection[int] | None = None) -> Bubbles:
        """Idle time of the pipeline: measured, in theory, and bounded by the plan."""
        from dashboard.analysis.pipeline.bubbles import measure_bubbles

        return self.answer(measure_bubbles, steps)

    def bandwidth(self, steps: Collection[int] | None = None) -> Bandwidth:
        """algbw and busbw of every operation, as seen and skew-free."""
        from dashboard.analysis.communication.bandwidth import measure_bandwidth

        return self.answer(measure_bandwidth, steps)

    def critical_path(self, steps: Collection[int] | None = None) -> CriticalPath:
        """What every nanosecond of each step was spent on, across ranks."""
        from dashboard.analysis.replay.critical_path import critical_path

        return self.answer(critical_path, steps)

    def temporal_breakdown(self, steps: Collection[int] | None = None) -> TemporalBreakdown:
        """Each device's time as idle, compute and the rest, and how far compute hid communication,
        as Holistic Trace Analysis defines them.
        """
        from dashboard.analysis.time_spent.temporal_breakdown import temporal_breakdown

        return self.answer(temporal_breakdown, steps)

    def kernel_breakdown(self, steps: Collection[int] | None = None) -> KernelBreakdown:
        """Which kernels take the device's time, by purpose and one by one."""
        from dashboard.analysis.time_spent.kernel_breakdown import kernel_breakdown

        return self.answer(kernel_breakdown, steps)

    def memory(self, steps: Collection[int] | None = None) -> Memory:
        """Memory of each rank, beside the microbatches that it holds."""
        from dashboard.analysis.memory.memory import measure_memory

        return self.answer(measure_memory, steps)

    def what_if(
        self, scenarios: Sequence[Scenario] | None = None, steps: Collection[int] | None = None
    ) -> WhatIf:
        """What the step would take if something were otherwise, by replay."""
        from dashboard.analysis.replay.whatif import what_if

        return what_if(self, scenarios, steps)

    def stragglers(self, steps: Collection[int] | None = None) -> Stragglers:
        """Who holds up the others, why, and what each costs the step, by replay."""
        from dashboard.analysis.stragglers.stragglers import find_stragglers

        return self.answer(find_stragglers, steps)

    def compare(
        self,
        other: Run,
        steps: Collection[int] | None = None,
        *,
        repeats: Sequence[Run] = (),
        relevant: float | None = None,
    ) -> Comparison:
        """From this run's step time to the other's, by category and operation, with intervals.

        repeats: more recordings of what this run records; chance is then what they differ by.
        relevant: share of the step time from which on differences are marked (2 % by default).
        """
        from dashboard.analysis.comparing.compare import compare

        return compare(self, other, steps, repeats=repeats, relevant=relevant)
