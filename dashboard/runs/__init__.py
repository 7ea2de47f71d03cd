"""Open runs: the directory's files in, one `Run` on one clock out."""

from dashboard.runs.open import open_run
from dashboard.runs.problems import Problem
from dashboard.runs.run import Run

__all__ = ["Problem", "Run", "open_run"]
