"""The numbers of each step as scalars of experiment trackers, by their own writers.

They then stand beside the loss curves: one tag per metric and label, `time_seconds/compute`.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from dashboard.analysis.time_spent.accounting import account
from dashboard.analysis.whole_run.step_metrics import LABELS, step_metrics
from dashboard.analysis.whole_run.summary import step_times
from dashboard.export.files import Advance, new_directory
from dashboard.export.selection import Selection
from tracer.errors import UsageError


def write_tensorboard(chosen: Selection, out: Path, advance: Advance) -> None:
    """A log directory: `tensorboard --logdir OUT`, or beside the training's own logs.

    Raises:
        UsageError: the package `tensorboard` is missing, something is at `out` already, or it
            cannot be written.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise UsageError("this needs TensorBoard: pip install 'rankscope[trackers]'") from error
    with new_directory(out):
        writer = Writer(str(out))
        for step, time_s, values in _by_step(chosen):
            for tag, value in values.items():
                writer.add_scalar(tag, value, step, wall_time=time_s)
        writer.flush()
        writer.close()
    advance(len(chosen.ranks))


def write_wandb(chosen: Selection, out: Path, advance: Advance) -> None:
    """A run of Weights & Biases in directory `out`, offline: `wandb sync OUT/wandb/offline-run-*`
    uploads it. With `WANDB_MODE=online` it is uploaded at once.

    Raises:
        UsageError: the package `wandb` is missing, a run of it is active in this process, something
            is at `out` already, it cannot be written, or the upload fails.
    """
    try:
        import wandb
    except ImportError as error:
        raise UsageError("this needs wandb: pip install 'rankscope[trackers]'") from error
    if wandb.run is not None:
        raise UsageError(
            "this process has a run of Weights & Biases of its own; wandb.finish() it first"
        )
    meta = chosen.run.meta
    with new_directory(out):
        try:
            tracked = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "rankscope"),
                name=chosen.run.name,
                dir=str(out),
                mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
                config={**meta.config, "rankscope.run_id": meta.run_id},
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    disable_git=True,
                    disable_code=True,
                    x_disable_stats=True,
                    x_save_requirements=False,
                ),
            )
            with contextlib.ExitStack() as stack:
                # The process that writes goes on after `finish` returns (seen with 0.31).
                stack.callback(wandb.teardown)
                stack.callback(tracked.finish)
                for step, _, values in _by_step(chosen):
                    tracked.log(values, step=step)
        except wandb.Error as error:
            raise UsageError(f"Weights & Biases: {error}") from error
    advance(len(chosen.ranks))


def _by_step(chosen: Selection) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Each step: its number, when it began (s since 1970; from the recording's own date, else from
    its start) and its values by tag. Values of ranks that are not chosen are left out.
    """
    table = step_metrics(chosen.run, chosen.steps).table
    values: dict[int, dict[str, float]] = defaultdict(dict)
    wanted = {str(rank) for rank in chosen.ranks}
    for row in table.to_pylist():
        if row["rank"] is None or row["rank"] in wanted:
            labels = [row[name] for name in LABELS if row[name] is not None]
            values[row["step"]]["/".join([row["metric"], *labels])] = row["value"]
    times = step_times(chosen.run.answer(account, chosen.steps))
    starts = dict(zip(times["step"].to_pylist(), times["start"].to_pylist(), strict=True))
    begun = _begun(chosen.run.meta.created)
    for step, found in sorted(values.items()):
        yield step, begun + starts[step] / 1e9, found


def _begun(created: str) -> float:
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return 0.0
