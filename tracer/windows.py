"""When to look closer: some steps out of many."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.errors import UsageError


@dataclass(frozen=True, slots=True)
class Window:
    """`steps` steps in a row, every `every` steps, the first ones from step `first` on.

    Raises:
        UsageError: the numbers do not make a window.
    """

    every: int = 500
    steps: int = 2
    first: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.every <= self.steps or self.first < 0:
            raise UsageError(
                f"{self}: wanted steps ≥ 1, every > steps (the rest of the run must stay cheap) "
                "and first ≥ 0"
            )

    def holds(self, step: int) -> bool:
        """Whether this step (from 0) lies in a window."""
        return step >= self.first and (step - self.first) % self.every < self.steps
