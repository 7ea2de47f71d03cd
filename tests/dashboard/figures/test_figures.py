"""Figures show the numbers that they are given, with units, also when there is little to show.

The numbers are those of the paper pipeline (tests/support/pipeline_toy.py, 1 unit = 1 µs).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import plotly.graph_objects as go
import pytest

from dashboard import Run, open_run
from dashboard.analysis.communication.latency_bandwidth import Line
from dashboard.analysis.communication.links import links
from dashboard.analysis.communication.utilization import utilization
from dashboard.analysis.comparing.trend import trend
from dashboard.analysis.pipeline.schedule import step_schedule
from dashboard.analysis.whole_run.work_by_step import work_by_step
from dashboard.figures import compare, overview
from dashboard.figures.base import log_ticks
from dashboard.figures.communication import (
    busbw_by_size,
    message_bytes,
    message_rates,
    skew_by_operation,
    utilization_over_time,
)
from dashboard.figures.latency import time_by_size
from dashboard.figures.memory import memory_over_time, memory_peaks
from dashboard.figures.overlap import overlap_by_dimension
from dashboard.figures.pipeline import bubble_by_step, bubble_heatmap, bubble_parts, stall_culprits
from dashboard.figures.schedule import schedule_grid
from dashboard.figures.stragglers import work_heatmap
from dashboard.figures.theme import CATEGORIES, KINDS, Theme
from tests.support.calibrations import calibration
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run

Draw = Callable[[Run, Theme], go.Figure]

FIGURES: dict[str, Draw] = {
    "step_times": lambda run, theme: overview.step_times(run.accounting(), theme),
    "accounting_bars": lambda run, theme: overview.accounting_bars(run.accounting(), theme),
    "bubble_by_step": lambda run, theme: bubble_by_step(run.bubbles(), theme),
    "bubble_heatmap": lambda run, theme: bubble_heatmap(run.bubbles(), theme),
    "bubble_parts": lambda run, theme: bubble_parts(run.bubbles(), theme),
    "stall_culprits": lambda run, theme: stall_culprits(run.bubbles(), theme),
    "schedule_grid": lambda run, theme: schedule_grid(step_schedule(run, 0, "pipeline"), theme),
    "busbw_by_size": lambda run, theme: busbw_by_size(run.bandwidth(), {"pp": 1.0}, theme),
    "utilization": lambda run, theme: utilization_over_time(
        utilization(run.bandwidth()), {}, theme
    ),
    "message_bytes": lambda run, theme: message_bytes(run.bandwidth(), theme),
    "message_rates": lambda run, theme: message_rates(run.bandwidth(), theme),
    "skew_by_operation": lambda run, theme: skew_by_operation(run.bandwidth(), theme),
    "overlap_by_dimension": lambda run, theme: overlap_by_dimension(run.accounting(), theme),
    "memory_over_time": lambda run, theme: memory_over_time(run.memory(), theme),
    "memory_peaks": lambda run, theme: memory_peaks(run.memory(), theme),
    "work_heatmap": lambda run, theme: work_heatmap(work_by_step(run), theme),
    "time_by_size": lambda run, theme: time_by_size(links(run), theme),
    "differences": lambda run, theme: compare.differences(run.compare(run), theme),
    "waterfall": lambda run, theme: compare.waterfall(run.compare(run), theme),
    "trend": lambda run, theme: compare.trend_of(trend([run, run, run]), theme),
    "mean_steps": lambda run, theme: compare.mean_steps(run.compare(run), theme),
    "step_time_pair": lambda run, theme: compare.step_times(
        run.accounting(), run.accounting(), ("a", "b"), theme
    ),
}
UNITS = ("ns", "µs", "ms", "s", "B/s", "kB/s", "MB/s", "GB/s", "bytes", "B", "kB", "MB", "%")
UNITLESS = (
    "step",
    "waiting rank",
    "from rank",
    "run",
    "microbatches held",
    "bubble / pipeline window",
    "",
)
"""Counts, names and ratios."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(write_pipeline(tmp_path_factory.mktemp("figures") / "toy", steps=2))


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """No step, no pipeline, no communication."""
    events = {0: [Event(start=0, duration=1, kind="user")]}
    return open_run(write_run(tmp_path_factory.mktemp("figures") / "nothing", events))


@pytest.fixture(scope="module")
def least(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One step, one microbatch forwards and backwards on one rank, one message to another."""
    common = {"step": 0, "group": "pp:0-1", "seq": 0, "bytes": 10}
    events = {
        0: [
            Event(start=0, duration=100, kind="step"),
            Event(start=0, duration=40, kind="forward", stage=0, microbatch=0),
            Event(start=41, duration=9, kind="backward", stage=0, microbatch=0),
            Event(start=50, duration=1, kind="send", name="send", peer=1, correlation=1, **common),
        ],
        1: [
            Event(start=0, duration=100, kind="step"),
            Event(start=60, duration=20, kind="recv", name="recv", peer=0, correlation=1, **common),
        ],
    }
    facts = {rank: RankFacts(coordinates={"pp": rank}, stages=(rank,)) for rank in events}
    path = tmp_path_factory.mktemp("figures") / "least"
    return open_run(write_run(path, events, facts=facts))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_data_and_can_be_sent_to_a_browser(
    run: Run, name: str, theme: Theme
) -> None:
    figure = FIGURES[name](run, theme)
    sent = json.loads(figure.to_json())
    assert sent["data"]
    assert sent["layout"]["height"] >= 150
    assert sent["layout"]["title"]["text"]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_shows_the_smallest_run(least: Run, name: str) -> None:
    assert json.loads(FIGURES[name](least, "light").to_json())["data"]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_why_it_is_empty(nothing: Run, name: str) -> None:
    figure = FIGURES[name](nothing, "light")
    assert not figure.data
    assert figure.layout.annotations[0].text


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_says_its_unit(run: Run, name: str) -> None:
    figure = FIGURES[name](run, "light")
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        title = axis.title.text or ""
        words = title.replace(",", " ").replace("(", " ").replace(")", " ").split()
        assert title in UNITLESS or set(words) & set(UNITS), title


def test_accounting_bars_show_time_per_step_and_its_share(run: Run) -> None:
    figure = overview.accounting_bars(run.accounting())
    assert figure.layout.xaxis.title.text == "µs per step (mean)"
    bars = {bar.name: bar for bar in figure.data}
    assert list(bars["compute"].y) == ["rank 0", "rank 1", "rank 2"]
    assert list(bars["compute"].x) == pytest.approx([60, 60, 60])
    assert list(bars["pipeline communication"].x) == pytest.approx([64, 43, 22])
    assert list(bars["idle"].customdata) == ["3.1\xa0%", "19.2\xa0%", "35.4\xa0%"]
    assert bars["compute"].marker.color == CATEGORIES["compute"].light


def test_step_times_carry_the_window_that_a_click_opens(run: Run) -> None:
    line = overview.step_times(run.accounting()).data[-1]
    assert (list(line.x), list(line.y)) == ([0, 1], pytest.approx([130, 130]))
    assert [point[:2] for point in line.customdata] == [[0, 130_000], [130_000, 260_000]]


def test_bubble_lines_show_measured_plan_and_theory(run: Run) -> None:
    figure = bubble_by_step(run.bubbles())
    lines = {line.name: list(line.y) for line in figure.data}
    assert lines["measured"] == pytest.approx([64 / 124] * 2)
    assert lines["plan bound"] == pytest.approx([0.5] * 2)
    assert figure.layout.shapes[0].y0 == pytest.approx(0.5)
    assert figure.layout.annotations[0].text == "theory 50.0\xa0%"


def test_bubble_parts_add_up_to_the_bubble(run: Run) -> None:
    figure = bubble_parts(run.bubbles())
    parts = {bar.name: list(bar.x) for bar in figure.data}
    assert parts["warm-up"] == pytest.approx([0, 11, 22])
    assert parts["stall"] == pytest.approx([64, 32, 0])
    assert parts["cool-down"] == pytest.approx([0, 21, 42])
    assert [note.text.strip() for note in figure.layout.annotations] == ["51.6\xa0%"] * 3
    assert [note.x for note in figure.layout.annotations] == pytest.approx([64] * 3)


def test_bubble_heatmap_has_a_row_per_rank_and_a_column_per_step(run: Run) -> None:
    heat = bubble_heatmap(run.bubbles()).data[0]
    assert list(heat.y) == ["rank 0 · stage 0", "rank 1 · stage 1", "rank 2 · stage 2"]
    assert list(heat.x) == [0, 1]
    assert heat.z[1] == pytest.approx([64 / 124] * 2)


def test_culprits_are_columns(run: Run) -> None:
    figure = stall_culprits(run.bubbles())
    cells = figure.data[0]
    assert cells.z[0][1] == pytest.approx(64)
    assert cells.z[1][2] == pytest.approx(32)
    assert cells.z[2][0] is None
    assert figure.layout.xaxis.title.text == "rank it waited for  (µs per step)"


def test_schedule_grid_shows_measured_above_replayed(run: Run) -> None:
    figure = schedule_grid(step_schedule(run, 1, "pipeline"))
    forward = next(bar for bar in figure.data if bar.name == "forward")
    boxes = zip(forward.y, forward.base, forward.x, forward.customdata, strict=True)
    measured = {(y, base, length) for y, base, length, what in boxes if what[3] == "measured"}
    # Starts of F on paper; rows 0 to 2 are the ranks. Row 3 is left free.
    assert measured == {(0, 0, 10), (0, 10, 10), (1, 11, 10), (1, 21, 10), (2, 22, 10), (2, 52, 10)}
    boxes = zip(forward.y, forward.base, forward.customdata, strict=True)
    replayed = {(y, base) for y, base, what in boxes if what[3] == "without waiting"}
    # Messages take no time: F1 of rank 2 follows its B0, 20 to 40 + 10.
    assert replayed == {(4, 0), (4, 10), (5, 10), (5, 20), (6, 20), (6, 50)}
    notes = [note.text for note in figure.layout.annotations]
    assert notes == [
        "measured: 124.0 µs",
        "without waiting: 120.0 µs",
        "plan, equal stages: 120.0 µs",  # all stages are equally long already
    ]
    assert forward.marker.color == KINDS["forward"].light


def test_busbw_is_shown_as_seen_and_skew_free(run: Run) -> None:
    figure = busbw_by_size(run.bandwidth(), {"pp": 5.0, "tp": 9.0})
    points = {trace.name: trace for trace in figure.data}
    assert points["pp p2p, skew-free"].marker.symbol == "circle"
    assert points["pp p2p, as seen"].marker.symbol == "circle-open"
    assert list(points["pp p2p, skew-free"].x) == [4000]
    # 4000 B in 1 µs is 4 GB/s; the medians of all eight messages of a step.
    assert list(points["pp p2p, skew-free"].y) == pytest.approx([4.0])
    assert figure.layout.yaxis.title.text == "busbw, GB/s"
    # Of the peaks only that of a dimension with traffic is drawn; log axes take exponents.
    assert [note.text for note in figure.layout.annotations] == ["pp peak 5 GB/s"]
    assert figure.layout.shapes[0].y0 == 5.0
    assert figure.layout.annotations[0].y == pytest.approx(math.log10(5.0))


def test_messages_go_from_row_to_column(run: Run) -> None:
    # Two microbatches of 4,000 B in each direction, over two steps.
    sent = message_bytes(run.bandwidth()).data[0]
    assert (sent.z[0][1], sent.z[1][0]) == (pytest.approx(16), pytest.approx(16))
    assert sent.z[0][2] is None
    rates = message_rates(run.bandwidth())
    assert rates.data[0].z[0][1] == pytest.approx(4.0)
    assert rates.layout.xaxis.title.text == "to rank  (GB/s)"


def test_skew_names_who_comes_last(run: Run) -> None:
    bars = skew_by_operation(run.bandwidth()).data[0]
    shown = dict(zip(bars.y, zip(bars.x, bars.text, strict=True), strict=True))
    # Rank 1 sends B0 at 73 and B1 at 103, rank 0 asks for them at 20 and 94: (53 + 9) / 2.
    assert shown["pp 1 → 0"] == (pytest.approx(31), "rank 1 last, 100 %")


def test_peaks_turn_utilization_into_a_share(run: Run) -> None:
    found = utilization(run.bandwidth(), bins=4)
    absolute = utilization_over_time(found, {})
    relative = utilization_over_time(found, {"pp": 0.5})
    assert absolute.layout.yaxis.title.text == "pp, MB/s"
    assert relative.layout.yaxis.title.text == "pp, % of peak"
    expected = found.table["gbps"].to_pylist()
    assert list(relative.data[0].y) == pytest.approx([rate / 0.5 for rate in expected])


def test_differences_have_whiskers_and_are_faint_within_chance(run: Run) -> None:
    figure = compare.differences(run.compare(run))
    bars = figure.data[0]
    assert bars.y[0] == "step time"
    assert list(bars.x) == [0.0] * len(bars.y)
    assert set(bars.marker.opacity) == {0.35}
    assert bars.marker.color[0] == KINDS["step"].light
    # One step is left after warm-up, so there is no interval.
    assert bars.error_x.visible is False


def test_the_waterfall_goes_from_a_to_b(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = [
        event
        for step in range(4)
        for event in (
            Event(start=100 * step, duration=100, kind="step", step=step),
            Event(start=100 * step, duration=70, kind="forward", step=step),
        )
    ]
    facts = RankFacts(coordinates={"dp": 0})
    path = tmp_path_factory.mktemp("figures")
    long = open_run(write_run(path / "one", {0: rows}, facts={0: facts}, scale=1000))
    bars, whiskers = compare.waterfall(run.compare(long)).data
    # 130 us = 60 compute + 2 optimizer + 43 pipeline + 25 idle become 100 = 70 compute + 30 idle.
    changes = dict(zip(bars.x, bars.y, strict=True))
    assert (bars.measure[0], bars.measure[-1]) == ("absolute", "total")
    assert (changes["A"], changes["compute"], changes["optimizer"]) == pytest.approx((130, 10, -2))
    assert whiskers.y[-1] == pytest.approx(100)
    assert whiskers.y[0] == pytest.approx(140)


def test_the_trend_marks_what_differs_from_the_first_run(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("figures")
    first, same = (open_run(write_pipeline(place / name, steps=5)) for name in ("first", "same"))
    rows = [Event(start=500 * n, duration=500, kind="step", step=n) for n in range(4)]
    slow = open_run(write_run(place / "slow", {0: rows}, scale=1000))
    (line,) = compare.trend_of(trend([first, same, slow])).data
    assert list(line.y) == pytest.approx([130, 130, 500])
    assert list(line.marker.symbol) == ["circle", "circle", "diamond"]


def test_the_two_runs_stand_beside_each_other(run: Run) -> None:
    bars = {bar.name: bar for bar in compare.mean_steps(run.compare(run)).data}
    assert list(bars["compute"].x) == pytest.approx([60, 60])
    lines = compare.step_times(run.accounting([0]), run.accounting([1]), ("a", "b")).data
    assert [(line.name, list(line.x)) for line in lines] == [("A  a", [0]), ("B  b", [1])]


def test_many_steps_are_drawn_without_markers_and_gaps(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    long = open_run(write_pipeline(tmp_path_factory.mktemp("figures") / "long", steps=100))
    for shown, mode, gap in ((run, "lines+markers", 1), (long, "lines", 0)):
        assert overview.step_times(shown.accounting()).data[-1].mode == mode
        assert bubble_by_step(shown.bubbles()).data[0].mode == mode
        assert bubble_heatmap(shown.bubbles()).data[0].xgap == gap


def test_the_line_of_a_calibration_is_drawn_beside_the_runs_own_times(run: Run) -> None:
    points = [{"group": "pp:0-2", "bytes": s, "ns": 1000 + s / 4} for s in (16_000, 64_000)]
    figure = time_by_size(links(run, calibration=calibration(points)))
    traces = {trace.name: trace for trace in figure.data}
    # 4,000 B take 1 µs in the run; 16 and 64 kB took 5 and 17 as calibrated.
    assert list(traces["pp:0-2 p2p"].y) == [1.0]
    assert list(traces["pp:0-2 p2p, calibrated"].y) == [5.0, 17.0]
    line = traces["pp:0-2 p2p, calibrated, line"]
    assert (line.y[0], line.y[-1]) == (pytest.approx(5), pytest.approx(17))
    assert "pp:0-2 p2p, line" not in traces


def test_overlap_is_split_by_dimension(run: Run) -> None:
    """Per rank and step of the paper pipeline 64, 43 and 22 of waiting, all of it exposed."""
    made = overlap_by_dimension(run.accounting())
    exposed, overlapped = made.data
    assert list(exposed.y) == ["pp"]
    assert (exposed.x[0], overlapped.x[0]) == pytest.approx(((64 + 43 + 22) / 3, 0))
    assert "µs per step and rank" in made.layout.xaxis.title.text


def test_microbatches_held_are_steps_below_the_memory(run: Run) -> None:
    made = memory_over_time(run.memory())
    held = {trace.name: trace for trace in made.data if trace.x}
    assert held["rank 0, held"].line.shape == "hv"
    assert list(held["rank 0, held"].y)[:4] == [1, 2, 1, 0]
    assert list(held["rank 0, held"].x)[:4] == pytest.approx([0, 10e-6, 94e-6, 124e-6])
    # A strip of its own for each rank, the first on top, all on one scale.
    first, second = made.layout.yaxis2, made.layout.yaxis3
    assert first.domain[0] > second.domain[1]
    assert first.range == second.range == (0, 2)


def test_the_fit_is_the_bandwidth_that_alpha_and_beta_say(run: Run) -> None:
    """10 µs + S / 4 GB/s: 10,000 B take 12.5 µs, 0.8 GB/s; 40 MB take 10,010 µs, 3.996 GB/s."""
    line = Line(
        group="pp:0-1", dim="pp", op="p2p", n=2, alpha_ns=10_000, beta_gbps=4.0, error=0.0,
        count=9, sizes=9, low_bytes=10_000, high_bytes=40_000_000, median_ns=1e6, left_out=0,
    )  # fmt: skip
    drawn = busbw_by_size(run.bandwidth(), lines=[line]).data[-1]
    assert drawn.name == "pp:0-1 p2p, α–β fit"
    assert (drawn.x[0], drawn.x[-1]) == pytest.approx((10_000, 40e6))
    assert (drawn.y[0], drawn.y[-1]) == pytest.approx((0.8, 40_000 / 10_010))


def test_the_ticks_of_times_are_chosen_for_the_whiskers_too() -> None:
    """Whiskers of the sample reach over decades where its medians do not: with a tick at every
    digit the labels lay over each other.
    """
    run = open_run("sample_traces/pp4-1f1b-slow-stage")
    figure = time_by_size(links(run))
    (points,) = (trace for trace in figure.data if trace.mode == "markers")
    ends = zip(points.y, points.error_y.arrayminus, points.error_y.array, strict=True)
    reached = [end for middle, down, up in ends for end in (middle - down, middle + up)]
    assert figure.layout.yaxis.dtick == log_ticks(reached)
    assert max(reached) / min(reached) > max(points.y) / min(points.y)
