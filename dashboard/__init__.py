"""Read what the tracer recorded: numbers, figures and a dashboard, without torch."""

from dashboard.run import Run, open_run

__all__ = ["Run", "open_run"]
