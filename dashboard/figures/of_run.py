"""`run.figures`: each figure of the dashboard as a method, for notebooks.

run = dashboard.open_run("runs/a")
run.figures.timeline(step=12)
run.figures.accounting(steps=range(10, 20)).write_image("where.svg")
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from typing import TYPE_CHECKING, Final, ParamSpec

import plotly.graph_objects as go

from dashboard.analysis.communication.bandwidth import measure_bandwidth
from dashboard.analysis.communication.collective_totals import collective_totals
from dashboard.analysis.communication.links import links
from dashboard.analysis.communication.utilization import utilization
from dashboard.analysis.communication.waits import waits_by_culprit
from dashboard.analysis.comparing.change_points import change_points
from dashboard.analysis.comparing.compare import compare
from dashboard.analysis.comparing.side_by_side import step_beside, step_course
from dashboard.analysis.comparing.trend import trend
from dashboard.analysis.layouts.layouts import usual_layouts
from dashboard.analysis.memory.memory import measure_memory
from dashboard.analysis.pipeline.bubbles import measure_bubbles
from dashboard.analysis.pipeline.schedule import step_schedule
from dashboard.analysis.replay.whatif import what_if
from dashboard.analysis.time_spent.accounting import account
from dashboard.analysis.whole_run.work_by_step import work_by_step
from dashboard.figures import communication, latency, memory, overview, pipeline, stragglers
from dashboard.figures.collectives import collective_bytes, collective_rates
from dashboard.figures.compare import differences, trend_of, waterfall
from dashboard.figures.layouts import layout_map
from dashboard.figures.overlap import overlap_by_dimension
from dashboard.figures.schedule import schedule_grid
from dashboard.figures.side_by_side import steps_side_by_side
from dashboard.figures.theme import TITLE_PX, Theme
from dashboard.figures.timeline import timeline
from dashboard.figures.whatif import savings
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.runs import Recording

_LIGHT: Final[Theme] = "light"
_P = ParamSpec("_P")
DEFAULT_PX: Final = 450
"""Plotly's own."""
Steps = Collection[int] | None


def _with_title(draw: Callable[_P, go.Figure]) -> Callable[_P, go.Figure]:
    """With room for the title that pages do not show."""

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> go.Figure:
        made = draw(*args, **kwargs)
        made.update_layout(height=(made.layout.height or DEFAULT_PX) + TITLE_PX)
        return made

    return drawn


class Figures:
    """Plotly figures of one run. `steps`: which (all by default); `theme`: light or dark."""

    def __init__(self, run: Recording) -> None:
        self._run = run

    @_with_title
    def timeline(self, step: int, theme: Theme = _LIGHT) -> go.Figure:
        """Every event of a step on every rank."""
        return timeline(self._run, step, theme)

    @_with_title
    def accounting(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Where each rank's time goes: one bar per rank, closing to its mean step."""
        return overview.accounting_bars(self._run.answer(account, steps), theme)

    @_with_title
    def step_times(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """The step time over the run: median over the ranks, fastest to slowest, and the steps from
        which on it is another.
        """
        changes = self._run.answer(change_points, steps)
        return overview.step_times(self._run.answer(account, steps), theme, changes)

    @_with_title
    def overlap(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Exposed and overlapped communication by mesh dimension."""
        return overlap_by_dimension(self._run.answer(account, steps), theme)

    @_with_title
    def bubble(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """The bubble ratio over the steps, with theory and plan bound."""
        return pipeline.bubble_by_step(self._run.answer(measure_bubbles, steps), theme)

    @_with_title
    def bubble_parts(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Warm-up, stall and cool-down of each rank."""
        return pipeline.bubble_parts(self._run.answer(measure_bubbles, steps), theme)

    @_with_title
    def bubble_by_rank(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """The bubble ratio of each rank in each step."""
        return pipeline.bubble_heatmap(self._run.answer(measure_bubbles, steps), theme)

    @_with_title
    def culprits(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Who waited for whom in the pipeline."""
        return pipeline.stall_culprits(self._run.answer(measure_bubbles, steps), theme)

    @_with_title
    def schedule(self, step: int, group: str | None = None, theme: Theme = _LIGHT) -> go.Figure:
        """The schedule of a step, measured and without waiting.

        group: of the pipeline, where there are several; the first by default.

        Raises:
            UsageError: the run has no pipeline.
        """
        found = self._run.answer(measure_bubbles, None).steps
        if not found.num_rows:
            raise UsageError(f"{self._run.path}: no pipeline stage was recorded")
        return schedule_grid(
            step_schedule(self._run, step, group or found["group"][0].as_py()), theme
        )

    @_with_title
    def busbw(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Bus bandwidth by message size, as seen and skew-free, with the fit of latency and
        bandwidth and the peaks that are known.
        """
        found = links(self._run, steps)
        peaks = {dim: peak.gbps for dim, peak in found.peaks.items()}
        bandwidth = self._run.answer(measure_bandwidth, steps)
        return communication.busbw_by_size(bandwidth, peaks, theme, found.fits())

    @_with_title
    def utilization(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """What the links carried over time."""
        peaks = {dim: peak.gbps for dim, peak in links(self._run, steps).peaks.items()}
        found = utilization(self._run.answer(measure_bandwidth, steps))
        return communication.utilization_over_time(found, peaks, theme)

    @_with_title
    def latency(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Skew-free time by size with the line of latency and bandwidth."""
        return latency.time_by_size(links(self._run, steps), theme)

    @_with_title
    def skew(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """How long operations wait for their last member, and who that is."""
        return communication.skew_by_operation(self._run.answer(measure_bandwidth, steps), theme)

    @_with_title
    def messages(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Bytes that each rank sent to each other rank."""
        return communication.message_bytes(self._run.answer(measure_bandwidth, steps), theme)

    @_with_title
    def message_rates(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Skew-free bandwidth of the messages from each rank to each other rank."""
        return communication.message_rates(self._run.answer(measure_bandwidth, steps), theme)

    @_with_title
    def collectives(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Bytes of collectives of each rank, by mesh dimension and operation."""
        return collective_bytes(self._run.answer(collective_totals, steps), theme)

    @_with_title
    def collective_rates(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Skew-free bus bandwidth of collectives as each rank saw it."""
        return collective_rates(self._run.answer(collective_totals, steps), theme)

    @_with_title
    def work(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Compute and optimizer time of each rank in each step, against the median of all."""
        return stragglers.work_heatmap(self._run.answer(work_by_step, steps), theme)

    @_with_title
    def waits(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Who waited for whom, over all messages and collectives."""
        return stragglers.wait_matrix(self._run.answer(waits_by_culprit, steps), theme)

    @_with_title
    def memory(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Memory of each rank beside the microbatches that it holds."""
        return memory.memory_over_time(self._run.answer(measure_memory, steps), theme)

    @_with_title
    def memory_peaks(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Peak and mean memory of each rank, and the most microbatches that it held."""
        return memory.memory_peaks(self._run.answer(measure_memory, steps), theme)

    @_with_title
    def savings(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """What mending each trouble would save, by replay."""
        return savings(what_if(self._run, None, steps), theme)

    @_with_title
    def layouts(self, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """Time per microbatch of other splits over pipeline and tensor ranks.

        Raises:
            UsageError: the run has no pipeline schedule.
        """
        chosen = self._run.steps if steps is None else steps
        return layout_map(usual_layouts(self._run, chosen), theme)

    @_with_title
    def waterfall(self, other: Recording, steps: Steps = None, theme: Theme = _LIGHT) -> go.Figure:
        """From this run's step time to the other's, by category."""
        return waterfall(compare(self._run, other, steps), theme)

    @_with_title
    def differences(
        self, other: Recording, steps: Steps = None, theme: Theme = _LIGHT
    ) -> go.Figure:
        """What changed from this run to the other, by category, with 95 % intervals."""
        return differences(compare(self._run, other, steps), theme)

    @_with_title
    def beside(self, other: Recording, step: int, theme: Theme = _LIGHT) -> go.Figure:
        """The same step of this run and of the other (the nearest that it has), on one time axis.

        Raises:
            UsageError: one of the runs has no complete step.
        """
        for run in (self._run, other):
            if not run.steps:
                raise UsageError(f"{run.path}: no step is complete on every rank")
        there = step_beside(self._run.steps, other.steps, step)
        courses = step_course(self._run, step), step_course(other, there)
        return steps_side_by_side(*courses, ("A", "B"), theme)

    @_with_title
    def trend(self, *others: Recording, theme: Theme = _LIGHT) -> go.Figure:
        """The step time of this run and of others, in the order given, with 95 % intervals."""
        return trend_of(trend([self._run, *others]), theme)
