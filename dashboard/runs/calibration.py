"""The calibration that lies in a run's directory, and how far it speaks for that run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tracer.calibration_file import CALIBRATION_FILE, Calibration, read_calibration
from tracer.errors import TraceError

if TYPE_CHECKING:
    from dashboard.runs.recording import Recording


def calibration_beside(path: Path) -> tuple[Calibration | None, tuple[str, ...]]:
    """The calibration in the run directory `path`, and what is wrong with its file."""
    try:
        return read_calibration(path / CALIBRATION_FILE), ()
    except FileNotFoundError:
        return None, ()
    except OSError as error:
        return None, (f"{path / CALIBRATION_FILE}: {error.strerror}",)
    except TraceError as error:
        return None, (str(error),)


def calibration_notes(run: Recording, calibration: Calibration) -> Iterator[str]:
    """Where it was measured otherwise than the run was recorded."""
    hosts = {facts.host for facts in run.facts.values() if facts.host}
    if hosts and hosts != set(calibration.hosts):
        yield (
            f"calibrated on {_some(calibration.hosts)}, recorded on {_some(hosts)}: "
            "the links may be others"
        )
    if calibration.run_id != run.meta.run_id:
        yield f"calibrated for another run ({calibration.run_id})"
    on_gpu = any(facts.device != "cpu" for facts in run.facts.values())
    if on_gpu != (calibration.device != "cpu"):
        there = "GPUs" if on_gpu else "processors"
        yield f"calibrated with {calibration.backend} on {calibration.device}, recorded on {there}"


_MOST_HOSTS: Final = 3


def _some(hosts: Iterable[str]) -> str:
    names = sorted(hosts)
    more = f" and {len(names) - _MOST_HOSTS} more" if len(names) > _MOST_HOSTS else ""
    return ", ".join(names[:_MOST_HOSTS]) + more
