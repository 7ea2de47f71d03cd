"""Figures show the numbers that they are given, with units, also when there is nothing to show."""

from __future__ import annotations

import json
from collections.abc import Callable

import plotly.graph_objects as go
import pytest

from dashboard import Run, open_run
from dashboard.analysis.actions import pipeline_actions
from dashboard.analysis.utilization import utilization
from dashboard.figures.communication import (
    arrival_skew,
    busbw_by_size,
    p2p_matrix,
    utilization_over_time,
)
from dashboard.figures.compare import differences, waterfall
from dashboard.figures.overview import accounting_bars, step_times
from dashboard.figures.pipeline import (
    bubble_by_step,
    bubble_heatmap,
    bubble_parts,
    schedule_grid,
    stall_culprits,
)
from dashboard.figures.theme import CATEGORIES, KINDS, Theme
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, write_run

Draw = Callable[[Run, Theme], go.Figure]


def _actions(run: Run) -> list:
    return [action for actions in pipeline_actions(run).values() for action in actions]


FIGURES: dict[str, Draw] = {
    "step_times": lambda run, theme: step_times(run.accounting(), theme),
    "accounting_bars": lambda run, theme: accounting_bars(run.accounting(), theme),
    "bubble_by_step": lambda run, theme: bubble_by_step(run.bubbles(), theme),
    "bubble_heatmap": lambda run, theme: bubble_heatmap(run.bubbles(), theme),
    "bubble_parts": lambda run, theme: bubble_parts(run.bubbles(), theme),
    "stall_culprits": lambda run, theme: stall_culprits(run.bubbles(), theme),
    "schedule_grid": lambda run, theme: schedule_grid(_actions(run), theme),
    "busbw_by_size": lambda run, theme: busbw_by_size(run.bandwidth(), {"pp": 1.0}, theme),
    "utilization": lambda run, theme: utilization_over_time(
        utilization(run.bandwidth()), {}, theme
    ),
    "p2p_matrix": lambda run, theme: p2p_matrix(run.bandwidth(), theme),
    "arrival_skew": lambda run, theme: arrival_skew(run.bandwidth(), theme),
    "differences": lambda run, theme: differences(run.compare(run), theme),
    "waterfall": lambda run, theme: waterfall(run.compare(run), theme),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(write_pipeline(tmp_path_factory.mktemp("figures") / "toy", steps=2))


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Run:
    events = {0: [Event(start=0, duration=1, kind="user")]}
    return open_run(write_run(tmp_path_factory.mktemp("figures") / "nothing", events))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_data_and_can_be_sent_to_a_browser(
    run: Run, name: str, theme: Theme
) -> None:
    figure = FIGURES[name](run, theme)
    sent = json.loads(figure.to_json())
    assert sent["data"]
    assert sent["layout"]["height"] >= 200


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_why_it_is_empty(nothing: Run, name: str) -> None:
    figure = FIGURES[name](nothing, "light")
    assert not figure.data
    assert figure.layout.annotations[0].text


@pytest.mark.parametrize("name", FIGURES)
def test_times_sizes_and_rates_carry_their_unit(run: Run, name: str) -> None:
    figure = FIGURES[name](run, "light")
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        title = axis.title.text or ""
        if any(word in title for word in ("time", "bubble", "busbw", "size", "skew", "carried")):
            assert "(" in title, title


def test_accounting_bars_show_ms_per_step(run: Run) -> None:
    bars = {bar.name: bar for bar in accounting_bars(run.accounting()).data}
    assert list(bars["compute"].y) == ["rank 0", "rank 1", "rank 2"]
    assert list(bars["compute"].x) == pytest.approx([0.06, 0.06, 0.06])
    assert list(bars["pipeline communication"].x) == pytest.approx([0.064, 0.043, 0.022])
    assert list(bars["idle"].customdata) == pytest.approx([4 / 130, 25 / 130, 46 / 130])
    assert bars["compute"].marker.color == CATEGORIES["compute"].light


def test_step_times_show_the_mean_of_the_ranks(run: Run) -> None:
    mean = step_times(run.accounting()).data[-1]
    assert (list(mean.x), list(mean.y)) == ([0, 1], pytest.approx([0.13, 0.13]))


def test_bubble_lines_show_measured_plan_and_theory(run: Run) -> None:
    lines = {line.name: list(line.y) for line in bubble_by_step(run.bubbles()).data}
    assert lines["measured"] == pytest.approx([100 * 64 / 124] * 2)
    assert lines["plan bound"] == pytest.approx([50.0] * 2)
    assert lines["theory"] == pytest.approx([50.0] * 2)


def test_bubble_parts_and_culprits(run: Run) -> None:
    parts = {bar.name: list(bar.x) for bar in bubble_parts(run.bubbles()).data}
    assert parts["warm-up"] == pytest.approx([0, 0.011, 0.022])
    assert parts["stall"] == pytest.approx([0.064, 0.032, 0])
    assert parts["cool-down"] == pytest.approx([0, 0.021, 0.042])
    matrix = stall_culprits(run.bubbles()).data[0]
    assert matrix.z[0][1] == pytest.approx(0.064)
    assert matrix.z[1][2] == pytest.approx(0.032)
    assert matrix.z[2][0] is None


def test_schedule_grid_has_a_box_per_action(run: Run) -> None:
    boxes = {bar.name: bar for bar in schedule_grid(pipeline_actions(run, [1])[1]).data}
    assert list(boxes["forward"].text) == ["0", "1", "0", "1", "0", "1"]
    assert list(boxes["forward"].base) == pytest.approx([0, 0.01, 0.011, 0.021, 0.022, 0.052])
    assert boxes["backward"].marker.color == KINDS["backward"].light


def test_p2p_matrix_shows_megabytes_from_source_to_destination(run: Run) -> None:
    matrix = p2p_matrix(run.bandwidth()).data[0]
    # Two microbatches of 4,000 B in each direction, over two steps.
    assert matrix.z[0][1] == pytest.approx(2 * 2 * 4000 / 1e6)
    assert matrix.z[0][2] is None


def test_peaks_turn_utilization_into_percent(run: Run) -> None:
    found = utilization(run.bandwidth(), bins=4)
    absolute = utilization_over_time(found, {})
    relative = utilization_over_time(found, {"pp": 0.5})
    assert "GB/s" in absolute.layout.yaxis.title.text
    assert "% of link peak" in relative.layout.yaxis.title.text
    expected = [100 * value / 0.5 for value in absolute.data[0].y]
    assert list(relative.data[0].y) == pytest.approx(expected)
