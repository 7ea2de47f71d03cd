"""Read runs: the directory's files in, one `Recording` on one clock out."""

from dashboard.runs.open import open_recording
from dashboard.runs.problems import Problem
from dashboard.runs.recording import Recording

__all__ = ["Problem", "Recording", "open_recording"]
