"""What exporting takes: processor time and bytes per event, and the most memory, by format.

    python -m benchmarks.export --run RUN

`export.us_per_event.by_hand` is its peer, in the same run: rows of the Arrow file as Python
dictionaries, one `json.dumps` each; `…_ratio` is over that. Processor time, so that other work on
the machine counts little. Memory is that of a process which opens the run and exports it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks._figures import show
from dashboard import Run, open_run
from dashboard.export.formats import export

SAMPLE = Path(__file__).resolve().parents[1] / "sample_traces" / "pp2-tp2-1f1b"
FORMATS = ("perfetto", "chrome", "parquet", "csv")


@click.command()
@click.option("--run", "path", default=str(SAMPLE), help="The run to export.")
@click.option("--format", "format", hidden=True, help="Of one export: print what it took.")
def main(path: str, format: str | None) -> None:
    """Print the figures of each format."""
    run = open_run(path)
    if format is not None:
        print(json.dumps(_one(run, format)))
        return
    count = run.event_count
    by_hand = _by_hand(run) / count
    show("export.us_per_event.by_hand", by_hand, "us", count)
    for name in FORMATS:
        command = [sys.executable, "-m", "benchmarks.export", "--run", path, "--format", name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(said)
        show(f"export.us_per_event.{name}", found["us"] / count, "us", count)
        show(f"export.{name}_ratio", found["us"] / count / by_hand, "ratio", count)
        show(f"export.bytes_per_event.{name}", found["bytes"] / count, "bytes", count)
        show(f"export.peak_memory.{name}", found["memory"] / 1e6, "MB", 1)


def _one(run: Run, format: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        begin = time.process_time()
        export(run, format, out)
        taken = time.process_time() - begin
        files = [p for p in out.rglob("*") if p.is_file()] if out.is_dir() else [out]
        size = sum(p.stat().st_size for p in files)
    return {"us": taken * 1e6, "bytes": size, "memory": _peak_memory()}


def _peak_memory() -> float:
    """Of this process, in bytes; `getrusage` would tell that of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) * 1024


def _by_hand(run: Run) -> float:
    begin = time.process_time()
    with tempfile.TemporaryFile("w") as file:
        for rank in run.ranks:
            for row in run.events(ranks=[rank]).to_pylist():
                file.write(json.dumps(row) + "\n")
    return (time.process_time() - begin) * 1e6


if __name__ == "__main__":
    main()
