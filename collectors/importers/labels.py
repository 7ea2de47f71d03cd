"""What the name of a range says: a step, forward, backward, optimizer, data, or nothing we know.

The table is `NAMES`, and docs/importing.md shows it. Names are those that frameworks give to their
record_function and NVTX ranges, and those that people usually give to their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final


@dataclass(frozen=True, slots=True)
class Label:
    """What is done in a range; `kind` is one of the trace format's."""

    kind: str
    stage: int | None = None
    microbatch: int | None = None


STEP_RANGE: Final = r"(?:ProfilerStep#|(?:train(?:ing)?[_ ])?(?:step|iter|iteration)[ _#:=]*)(\d+)?"
"""Names of steps, unless the user gives an expression of their own; the number, if any, counts."""

_LETTERS: Final = {"F": "forward", "B": "backward", "I": "backward_input", "W": "backward_weight"}
_ACTION: Final = re.compile(r"PP:(\d{1,6})([FBIW])(\d{1,6})")
_MICROBATCH: Final = re.compile(r"(Forward|Backward) (\d{1,6})")

NAMES: Final[tuple[tuple[str, str], ...]] = (
    (r"(?:model[._ ])?(?:forward|fwd)(?:[_ ](?:pass|step))?", "forward"),
    (r"DistributedDataParallel\.forward|DeepSpeedEngine\.forward", "forward"),
    (r"(?:loss[._ ])?(?:backward|bwd)(?:[_ ](?:pass|step))?", "backward"),
    (r"DeepSpeedEngine\.backward", "backward"),
    (r"Optimizer\.step#.*|DeepSpeedEngine\.step", "optimizer"),
    (r"opt(?:imizer)?(?:[._ ]step)?", "optimizer"),
    (
        r"(?:data(?:[_ ]?load(?:er|ing)?)?|load[_ ](?:batch|data)|(?:get|next|fetch)[_ ]batch)",
        "data",
    ),
    (r"enumerate\(DataLoader\).*", "data"),
)
"""The whole name, whatever its case → kind."""

_TABLE: Final = tuple((re.compile(name, re.IGNORECASE), kind) for name, kind in NAMES)


@lru_cache(maxsize=4096)
def label_of(name: str) -> Label | None:
    """`PP:1B2` → backward of microbatch 2 on stage 1; `loss.backward` → backward; else None."""
    action = _ACTION.fullmatch(name)
    if action is not None:
        stage, letter, microbatch = action.groups()
        return Label(_LETTERS[letter], int(stage), int(microbatch))
    piece = _MICROBATCH.fullmatch(name)
    if piece is not None:
        return Label(piece[1].lower(), None, int(piece[2]))
    for known, kind in _TABLE:
        if known.fullmatch(name):
            return Label(kind)
    return None
