"""What is wrong with a run that can be shown all the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_EVENTS: Final = re.compile(r"rank-[0-9]+\.(arrows|parquet)")
"""The file of a rank, or the first of many in a row."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Problem:
    """One thing to know about a run: the file (and rank) it is about, and what to do."""

    file: str
    message: str
    rank: int | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"

    @property
    def is_of_events(self) -> bool:
        """Whether it leaves out events: their file is missing, damaged or cut off."""
        return _EVENTS.fullmatch(self.file.partition(" ")[0]) is not None


def problem_of(path: Path, rank: int | None, message: str) -> Problem:
    """A problem of the file at `path`."""
    return Problem(file=path.name, rank=rank, message=message)


def less_its_file(path: Path, error: object) -> str:
    """The message less the path that it begins with: a problem names its file already."""
    return str(error).removeprefix(f"{path}: ")
