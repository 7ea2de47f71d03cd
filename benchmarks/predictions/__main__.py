"""Predicted against measured: from one recorded run what another takes, and that one recorded.

    python -m benchmarks.predictions [--out DIRECTORY] [--repeats 2]

Four processes train examples/train_pipeline.py on CPU and gloo. Their work is sleep (5 ms forward
per layer, as long for each half of the backward) beside a little arithmetic, so that each has its
own share of a machine with fewer cores. Four questions, each answered from one recording:

* plans: from 1F1B with 4 microbatches, 8 and 16 of them, GPipe, Interleaved1F1B and ZBVZeroBubble;
* stages: from a run with a slow stage, the one without, and the other way round;
* layouts: from 2 pipeline x 2 tensor ranks, 4 x 1, 1 x 4, and other microbatches and schedules;
* data: from 2 pipeline x 2 data ranks, 4 x 1, 1 x 4, and other microbatches and schedules.

Every configuration is recorded `--repeats` times; measured is the mean of them. Predictions come
from the first recording of the base. The last step of every recording is left out: ranks that are
done with it shut down, and take the processor from those that are not. Prints a JSON line each and
a table at the end. Where other work runs on the machine, `chrt -r 5 python -m
benchmarks.predictions` keeps it away.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Final

import numpy as np

from dashboard import open_run
from dashboard.analysis.layouts.costs import action_costs
from dashboard.analysis.layouts.layout import Layout
from dashboard.analysis.layouts.layouts import explore_layouts, rank_correlation
from dashboard.analysis.replay.graph import dependency_graph
from dashboard.analysis.replay.other_plans import other_plans, plan_like
from dashboard.analysis.replay.replay import replay, step_times
from dashboard.analysis.replay.scenarios import stage_takes
from dashboard.analysis.replay.step_model import step_model
from dashboard.analysis.replay.whatif import what_if
from dashboard.run import Run

PROCESSES: Final = 4
LAYERS: Final = 8
SLOW: Final = 1.5
_COMMON: Final = (
    "--layers", str(LAYERS), "--work-ms", "5", "--rows", "8", "--width", "32", "--steps", "12",
)  # fmt: skip
_LONG: Final = ("--work-ms", "20", "--steps", "8")
"""For layouts: DTensor's own Python takes 1 to 2 ms per layer, which no other split has alike."""
_WIDE: Final = (*_LONG, "--width", "512")
"""With gradients of 8 MB per layer, so that reducing them takes some time."""
_TENSOR: Final = ("--schedule", "1F1B", "--microbatches", "8", "--tensor-parallel", "2")


@dataclass(kw_only=True, frozen=True)
class Row:
    """One prediction. Times in ms; error = predicted / measured - 1, own_error that of the way of
    predicting for the recorded run itself; spread: the repeats' largest over smallest, less 1.
    """

    question: str
    base: str
    asked: str
    predicted: float
    measured: float
    error: float
    spread: float
    own_error: float


def main() -> None:
    """Record, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="keep the recordings here, and use those there")
    parser.add_argument("--only", choices=("plans", "stages", "layouts", "data"))
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        recorder = Recorder(options.out or Path(directory), options.repeats)
        rows = []
        for question in (plans, stages, layouts, data):
            if options.only in (None, question.__name__):
                for row in question(recorder):
                    print(json.dumps(asdict(row)), flush=True)
                    rows.append(row)
        _table(rows)
        _replays(recorder)


@dataclass
class Recorder:
    """Records configurations, each once per repeat."""

    directory: Path
    repeats: int

    def runs(self, *arguments: str) -> list[Run]:
        """The recordings of examples/train_pipeline.py with these arguments."""
        name = "_".join(arguments).replace("--", "") or "plain"
        return [self._run(f"{name}.{repeat}", arguments) for repeat in range(self.repeats)]

    def _run(self, name: str, arguments: tuple[str, ...]) -> Run:
        path = self.directory / name
        if not (path / "run.json").exists():
            command = [
                sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc-per-node", str(PROCESSES), "-m", "tracer", "--out", str(path),
                "examples/train_pipeline.py", *_COMMON, *arguments,
            ]  # fmt: skip
            print("recording", name, file=sys.stderr, flush=True)
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, env=environment, check=True, capture_output=True)
        return open_run(path)


def plans(recorder: Recorder) -> Iterator[Row]:
    """Other microbatches and schedules, by the step model."""
    base = recorder.runs("--schedule", "1F1B", "--microbatches", "4")[0]
    for schedule, m, v in (
        ("1F1B", 8, 1),
        ("1F1B", 16, 1),
        ("GPipe", 4, 1),
        ("GPipe", 8, 1),
        ("Interleaved1F1B", 4, 2),
        ("Interleaved1F1B", 8, 2),
        ("ZBVZeroBubble", 8, 2),
    ):
        found = other_plans(base, [plan_like(base, schedule=schedule, m=m, v=v)], _steps(base))
        several = ("--virtual-stages", str(v)) if v > 1 else ()
        asked = ("--schedule", schedule, "--microbatches", str(m), *several)
        yield _row(
            "plan", "1F1B m4", f"{schedule} m{m} v{v}", found.predictions[0].step_ns,
            recorder.runs(*asked), found.model_error,
        )  # fmt: skip


def stages(recorder: Recorder) -> Iterator[Row]:
    """A stage as fast as the others, or slower, by replay. Sleep is what is slowed, and it is not
    all of a stage's compute: the factor is that of its measured compute.
    """
    fast = ("--schedule", "1F1B", "--microbatches", "8")
    slow = (*fast, "--slow-stage", "2", "--slow-factor", str(SLOW))
    (quick, *_), (delayed, *_) = recorder.runs(*fast), recorder.runs(*slow)
    factor = _compute(quick, 2) / _compute(delayed, 2)
    for base, name, asked, times in (
        (delayed, "slow stage 2", fast, factor),
        (quick, "1F1B m8", slow, 1 / factor),
    ):
        found = what_if(base, [stage_takes(2, times)], _steps(base))
        yield _row(
            "stage", name, f"stage 2 takes {100 * times:.0f} %", found.predictions[0].step_ns,
            recorder.runs(*asked), found.replay_error,
        )  # fmt: skip


def layouts(recorder: Recorder) -> Iterator[Row]:
    """Other splits of the same model over the four ranks, from pipeline and tensor ranks."""
    asked = [
        Layout(p=4, t=1, d=1, m=8, v=1, schedule="Schedule1F1B"),
        Layout(p=4, t=1, d=1, m=16, v=1, schedule="Schedule1F1B"),
        Layout(p=4, t=1, d=1, m=8, v=2, schedule="ScheduleInterleaved1F1B"),
        Layout(p=2, t=2, d=1, m=16, v=1, schedule="Schedule1F1B"),
        Layout(p=2, t=2, d=1, m=4, v=1, schedule="ScheduleGPipe"),
        Layout(p=1, t=4, d=1, m=8, v=1, schedule="ScheduleGPipe"),
    ]
    base = recorder.runs(*_TENSOR, *_LONG)[0]
    return _layouts(recorder, base, "p2 t2 m8", asked, _LONG)


def data(recorder: Recorder) -> Iterator[Row]:
    """The same from pipeline and data ranks."""
    asked = [
        Layout(p=4, t=1, d=1, m=8, v=1, schedule="Schedule1F1B"),
        Layout(p=4, t=1, d=1, m=8, v=2, schedule="ScheduleInterleaved1F1B"),
        Layout(p=2, t=1, d=2, m=8, v=1, schedule="Schedule1F1B"),
        Layout(p=2, t=1, d=2, m=4, v=1, schedule="ScheduleGPipe"),
        Layout(p=1, t=1, d=4, m=2, v=1, schedule="ScheduleGPipe"),
        Layout(p=1, t=1, d=4, m=4, v=1, schedule="ScheduleGPipe"),
    ]
    base = recorder.runs(*_arguments(Layout(p=2, t=1, d=2, m=4, v=1, schedule="1F1B")), *_WIDE)[0]
    return _layouts(recorder, base, "p2 d2 m4", asked, _WIDE)


def _layouts(
    recorder: Recorder, base: Run, name: str, asked: list[Layout], common: tuple[str, ...]
) -> Iterator[Row]:
    share = _sleep_share(base)
    found = explore_layouts(base, asked, _steps(base))
    known = explore_layouts(base, asked, _steps(base), split_share=share)
    answers = {"": found, ", share known": known}
    for layout in asked:
        runs = recorder.runs(*_arguments(layout), *common)
        for words, answer in answers.items():
            predicted = {p.layout: p.step_ns for p in answer.predictions}[layout]
            said = f"  … {100 * share:.0f} % shared" if words else str(layout)
            yield _row(f"layout{words}", name, said, predicted, runs, found.model_error)


def _arguments(layout: Layout) -> tuple[str, ...]:
    """Of the example, for this layout."""
    wanted = {"tensor-parallel": layout.t, "data-parallel": layout.d, "virtual-stages": layout.v}
    several = [(f"--{name}", str(size)) for name, size in wanted.items() if size > 1]
    return (
        "--schedule", layout.schedule.removeprefix("Schedule"),
        "--microbatches", str(layout.m), *(word for pair in several for word in pair),
    )  # fmt: skip


def _sleep_share(run: Run) -> float:
    """Which part of the compute is sleep, the part that tensor ranks really share here: the rest is
    Python, of DTensor above all, which every rank does for itself.
    """
    model = step_model(run, _steps(run))
    costs = action_costs(run, model)
    seconds = float(_LONG[1]) / 1e3 * LAYERS / model.stages / 2
    slept = {"forward": seconds * 1e9, "backward": 2 * seconds * 1e9}
    shares = [slept[kind] / spent for (_, kind), spent in costs.compute.items()]
    return fmean(shares)


def _compute(run: Run, stage: int) -> float:
    graph = dependency_graph(run, _steps(run)[1:])
    rows = graph.pieces.to_pylist()
    return sum(r["duration"] for r in rows if r["category"] == "compute" and r["stage"] == stage)


def _row(
    question: str, base: str, asked: str, predicted: float, runs: list[Run], own_error: float
) -> Row:
    times = [_step_ms(run) for run in runs]
    return Row(
        question=question,
        base=base,
        asked=asked,
        predicted=round(predicted / 1e6, 2),
        measured=round(fmean(times), 2),
        error=round(predicted / 1e6 / fmean(times) - 1, 4),
        spread=round(max(times) / min(times) - 1, 4),
        own_error=round(own_error, 4),
    )


def _steps(run: Run) -> tuple[int, ...]:
    """All but the last, in which other ranks shut down; the first is left out by the analyses."""
    return run.steps[:-1]


def _step_ms(run: Run) -> float:
    graph = dependency_graph(run, _steps(run))
    return step_times(graph, graph.time).mean_ns / 1e6


def _table(rows: list[Row]) -> None:
    print(
        f"\n{'from':<14} {'asked':<34} {'predicted':>9} {'measured':>9} {'error':>7} {'spread':>7}"
    )
    for row in rows:
        print(
            f"{row.base:<14} {row.asked:<34} {row.predicted:>9.1f} {row.measured:>9.1f} "
            f"{100 * row.error:>+6.1f}% {100 * row.spread:>6.1f}%"
        )
    for question in dict.fromkeys(row.question for row in rows):
        errors = [abs(row.error) for row in rows if row.question == question]
        middle, worst = 100 * median(errors), 100 * max(errors)
        print(f"{question}: |error| median {middle:.1f} %, worst {worst:.1f} % of {len(errors)}")
    for question in ("layout", "layout, share known"):
        mine = [row for row in rows if row.question == question]
        if mine:
            found = rank_correlation([r.predicted for r in mine], [r.measured for r in mine])
            print(f"{question}: rank correlation {found:.2f} over {len(mine)}")


def _replays(recorder: Recorder) -> None:
    """The unchanged replay of everything that was recorded, and the step model of it."""
    replays, models = [], []
    for path in sorted(recorder.directory.glob("*/run.json")):
        run = open_run(path.parent)
        graph = dependency_graph(run, _steps(run))
        measured = step_times(graph, graph.time).mean_ns
        replays.append(abs(step_times(graph, replay(graph)).mean_ns / measured - 1))
        models.append(abs(other_plans(run, [], _steps(run)).model_error))
    for name, errors in (("replay", replays), ("step model", models)):
        print(
            f"{name} of {len(errors)} recorded runs as they were: median "
            f"{100 * median(errors):.2f} %, 95th percentile {100 * np.percentile(errors, 95):.2f} %"
        )


if __name__ == "__main__":
    main()
