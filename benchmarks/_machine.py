"""What a measurement was taken on: the machine, the versions, and what else was at work."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_PACKAGES: Final = (
    *("rankscope", "torch", "numpy", "pyarrow", "dash", "plotly", "distributed"),
    *("viztracer", "HolisticTraceAnalysis", "pandas"),
)
"""Ours and the peers'."""


def facts() -> dict[str, Any]:
    """Facts for the first line of a file of figures; nothing names the machine or its user."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "may_use_cores": len(os.sched_getaffinity(0)),
        "has_real_time_priority": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": dict(_versions()),
        "load_average": round(os.getloadavg()[0], 2),
    }


def in_words(known: dict[str, Any]) -> str:
    """One line of it."""
    packages = ", ".join(f"{name} {number}" for name, number in known["packages"].items())
    how = "" if known["may_use_cores"] == known["cores"] else f" ({known['may_use_cores']} used)"
    how += ", at real-time priority" if known["has_real_time_priority"] else ""
    return (
        f"{known['date']}, commit {known['commit']}: {known['cores']} cores of "
        f"{known['processor']}{how}, {known['memory_gib']} GiB, {known['system']}, "
        f"{known['python']}, {packages}; "
        f"load average {known['load_average']:g} at the start"
    )


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    try:
        said = subprocess.run(asked, cwd=_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    return found
