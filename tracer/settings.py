"""What the user chose: by arguments, else by the environment, so that a launcher can choose too.

| variable | stands for |
| --- | --- |
| RANKSCOPE_DIR | the run directory of a `Tracer()` that was given none |
| RANKSCOPE_DISABLE=1 | `enabled=False` |
| RANKSCOPE_EVERY | `every` |
| RANKSCOPE_FLUSH_S | `flush_interval_s` |
| RANKSCOPE_KERNELS=500:2 | `kernels=Window(every=500, steps=2)` |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tracer.errors import UsageError
from tracer.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where, whether, how often, and how closely to record."""

    path: Path
    enabled: bool
    every: int
    flush_interval_s: float
    kernels: Window | None


def settle(
    *,
    path: str | os.PathLike[str] | None,
    enabled: bool,
    every: int | None,
    flush_interval_s: float | None,
    kernels: Window | None,
) -> Settings:
    """The arguments where they are given, else the environment, else the defaults.

    Raises:
        UsageError: a value makes no sense; the message names the argument or the variable.
    """
    chosen = path if path is not None else os.environ.get("RANKSCOPE_DIR") or None
    disabled = os.environ.get("RANKSCOPE_DISABLE", "0") not in ("", "0")
    return Settings(
        path=Path(os.devnull if chosen is None else chosen),
        enabled=enabled and not disabled and chosen is not None,
        every=int(_positive("every", every, "RANKSCOPE_EVERY", 1)),
        flush_interval_s=_positive("flush_interval_s", flush_interval_s, "RANKSCOPE_FLUSH_S", 1.0),
        kernels=kernels if kernels is not None else _kernels_of_environment(),
    )


def _positive(name: str, given: float | None, variable: str, default: float) -> float:
    source, value = name, given
    if given is None:
        source, text = variable, os.environ.get(variable) or str(default)
        try:
            value = float(text)
        except ValueError:
            raise UsageError(f"{variable} is {text!r}, wanted a number") from None
    if value is None or not value > 0:
        raise UsageError(f"{source} is {value!r}, wanted more than 0")
    return value


def _kernels_of_environment() -> Window | None:
    text = os.environ.get("RANKSCOPE_KERNELS")
    if not text:
        return None
    every, _, steps = text.partition(":")
    if not (every.isdigit() and steps.isdigit()):
        raise UsageError(f"RANKSCOPE_KERNELS is {text!r}, wanted <every>:<steps>, as 500:2")
    return Window(every=int(every), steps=int(steps))
