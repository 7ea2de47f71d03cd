"""One way from Kineto files to figures, in a process of its own, for benchmarks.hta."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

Figures = dict[int, tuple[float, float, float, float]]
"""By rank: idle, compute and other time in µs, and the part of communication that was hidden, %."""


def _hta(directory: Path) -> Figures:
    from hta.trace_analysis import TraceAnalysis

    with contextlib.redirect_stdout(io.StringIO()):
        analysis = TraceAnalysis(trace_dir=str(directory))
        breakdown = analysis.get_temporal_breakdown(visualize=False)
        overlap = analysis.get_comm_comp_overlap(visualize=False)
    hidden = dict(zip(overlap["rank"], overlap["comp_comm_overlap_pctg"], strict=True))
    return {
        int(row["rank"]): (
            float(row["idle_time(us)"]),
            float(row["compute_time(us)"]),
            float(row["non_compute_time(us)"]),
            float(hidden[row["rank"]]),
        )
        for row in breakdown.to_dict("records")
    }


def _rankscope(directory: Path) -> Figures:
    """Imported, and its last step left out, as HTA leaves it out."""
    from dashboard import open_run

    began = time.perf_counter()
    run = open_run(directory)
    _parts["open_s"] = time.perf_counter() - began
    table = run.temporal_breakdown(run.steps[:-1]).ranks
    return {
        row["rank"]: (
            row["idle_ns"] / 1e3,
            row["compute_ns"] / 1e3,
            row["non_compute_ns"] / 1e3,
            100 * row["overlap"],
        )
        for row in table.to_pylist()
    }


def _json_load(directory: Path) -> None:
    """What reading such files takes at least with the usual libraries."""
    import pandas as pd

    for file in sorted(directory.glob("rank*.json")):
        with file.open() as text:
            assert len(pd.DataFrame(json.load(text)["traceEvents"]))


_parts: Final[dict[str, float]] = {}
TASKS: Final[dict[str, Callable[[Path], Figures | None]]] = {
    "hta": _hta,
    "rankscope": _rankscope,
    "again": _rankscope,
    "json_load": _json_load,
}


if __name__ == "__main__":
    task, began = TASKS[sys.argv[1]], time.perf_counter()
    found = task(Path(sys.argv[2]))
    print(json.dumps({"wall_s": time.perf_counter() - began, "figures": found} | _parts))
