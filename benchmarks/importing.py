"""Importing a Kineto file of some size: MB/s and peak memory, beside reading it as one JSON value.

    python -m benchmarks.importing [--megabytes 200]

The file is made up after what torch writes on a GPU (operators, launches, kernels with their grid,
NCCL). The peers, in a process each on the same file: `json.load`, which every tool that builds the
whole trace in memory does at least, and the parser of Holistic Trace Analysis, which makes a data
frame of it. (Its `Trace` goes on from there, but HTA 0.5 with pandas 3 fails on more than 32,767
events: an index that it has packed into 16 bits.)
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks._figures import show

_STEP_US: Final = 20_000
_CALLS: Final = 200
"""Per step: six operators, a launch and a kernel each."""
_KERNEL: Final = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add"

_WAYS: Final = {
    "import": """
from collectors.importers.formats import format_named, import_files
import_files(format_named("kineto"), [path], path.with_name("run"))
""",
    "json_load": """
import json
with path.open("rb") as file:
    found = json.load(file)
""",
    "hta_parser": """
import logging
logging.disable(logging.CRITICAL)
from hta.common.trace_parser import parse_trace_dataframe
from hta.configs.parser_config import ParserConfig
found = parse_trace_dataframe(str(path), ParserConfig.get_default_cfg())
""",
}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--ways", default=",".join(_WAYS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rank0.json"
        events = write_trace(path, round(options.megabytes * 1e6))
        megabytes = path.stat().st_size / 1e6
        show("importing.file_mb", megabytes, "MB", 1)
        show("importing.events", events, "events", 1)
        ways = options.ways.split(",")
        if "hta_parser" in ways and importlib.util.find_spec("hta") is None:
            print("HTA is not installed: pip install HolisticTraceAnalysis", file=sys.stderr)
            ways.remove("hta_parser")
        taken = {way: _measure(way, path) for way in ways}
    for way, (seconds, processor, peak) in taken.items():
        show(f"importing.{way}.mb_per_s", megabytes / seconds, "MB/s", 1)
        show(f"importing.{way}.mb_per_processor_s", megabytes / processor, "MB/s", 1)
        show(f"importing.{way}.peak_mb", peak, "MB", 1)
        if way != "import" and "import" in taken:
            show(f"importing.peak_over_{way}", taken["import"][2] / peak, "ratio", 1)
            show(f"importing.time_over_{way}", taken["import"][1] / processor, "ratio", 1)


def write_trace(path: Path, size: int) -> int:
    """Write steps until the file has `size` bytes; returns the number of events."""
    facts = {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": "made up"}],
        "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": 1},
        "host_name": "made-up",
        "baseTimeNanoseconds": 1_790_000_000_000_000_000,
    }
    events = step = written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(facts)[:-1] + ',\n  "traceEvents": [')
        while written < size or step < 2:
            made = _step(step)
            text = ",\n".join(json.dumps(event, indent=2) for event in made)
            file.write((",\n" if step else "\n") + text)
            written += len(text)
            events += len(made)
            step += 1
        file.write("\n  ]\n}\n")
    return events


def _step(step: int) -> list[dict[str, Any]]:
    begin = step * _STEP_US
    main = {"ph": "X", "pid": 100, "tid": 100}
    made: list[dict[str, Any]] = [
        main
        | {"cat": "user_annotation", "name": f"ProfilerStep#{step}"}
        | {"ts": begin + 0.001, "dur": _STEP_US - 0.002}
    ]
    for call in range(_CALLS):
        at = begin + 100 * call + 0.123
        number = step * _CALLS + call
        for depth in range(6):
            args = {"External id": number * 6 + depth, "Record function id": 0, "Ev Idx": number}
            name = {"cat": "cpu_op", "name": f"aten::operator_{depth}"}
            made.append(main | name | {"ts": at + depth, "dur": 80 - 2 * depth, "args": args})
        launch = {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": at + 8, "dur": 4.5}
        made.append(main | launch | {"args": {"cbid": 211, "correlation": number}})
        args = {
            "External id": number * 6, "device": 0, "context": 1, "stream": 7,
            "correlation": number, "registers per thread": 32, "shared memory": 0,
            "blocks per SM": 0.82, "warps per SM": 6.5, "grid": [108, 1, 1],
            "block": [256, 1, 1], "est. achieved occupancy %": 10,
        }  # fmt: skip
        kernel = {"ph": "X", "cat": "kernel", "name": f"{_KERNEL}<{call}>", "pid": 0, "tid": 7}
        made.append(kernel | {"ts": at + 20, "dur": 70.25, "args": args})
    return made


def _measure(way: str, path: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds and MB of peak memory of a process that does it, Python's start
    included.
    """
    code = f"from pathlib import Path\npath = Path({str(path)!r})\n{_WAYS[way]}"
    code += "import resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor, int(done.stdout.split()[-1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
