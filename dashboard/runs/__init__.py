"""Read runs: files in, from a disk or an object store, one `Recording` on one clock out."""

from dashboard.runs.open import open_recording
from dashboard.runs.opening import open_anywhere
from dashboard.runs.problems import Problem
from dashboard.runs.recording import Recording

__all__ = ["Problem", "Recording", "open_anywhere", "open_recording"]
