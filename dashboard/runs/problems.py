"""What is wrong with a run that can be shown all the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True, frozen=True)
class Problem:
    """One thing to know about a run: the file (and rank) it is about, and what to do."""

    file: str
    message: str
    rank: int | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"
