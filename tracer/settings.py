"""What the user chose: by arguments, else by the environment, so that a launcher can choose too.

| variable | stands for |
| --- | --- |
| RANKSCOPE_DIR | the run directory of a `Tracer()` that was given none |
| RANKSCOPE_DISABLE=1 | `enabled=False` |
| RANKSCOPE_EVERY | `every` |
| RANKSCOPE_FLUSH_S | `flush_interval_s` |
| RANKSCOPE_KERNELS=500:2 | `kernels=Window(every=500, steps=2)` |
| RANKSCOPE_KEEP_LAST | `keep_last` |
| RANKSCOPE_SLOW_STEP_S | `slow_step_s` |
| RANKSCOPE_HANG_S | `hang_s` |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tracer.black_box import Watch
from tracer.errors import UsageError
from tracer.windows import Window

_HANG_S = 120.0
"""Shorter than the time-outs of process groups (10 minutes on NCCL, 30 on gloo)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where, whether, how often, and how closely to record."""

    path: Path
    enabled: bool
    every: int
    flush_interval_s: float
    kernels: Window | None
    black_box: Watch | None


def settle(
    *,
    path: str | os.PathLike[str] | None,
    enabled: bool,
    every: int | None,
    flush_interval_s: float | None,
    kernels: Window | None,
    keep_last: int | None = None,
    slow_step_s: float | None = None,
    hang_s: float | None = None,
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
        black_box=_black_box(keep_last, slow_step_s, hang_s),
    )


def _black_box(
    keep_last: int | None, slow_step_s: float | None, hang_s: float | None
) -> Watch | None:
    if keep_last is None and not os.environ.get("RANKSCOPE_KEEP_LAST"):
        if slow_step_s is not None or hang_s is not None:
            raise UsageError(
                "slow_step_s and hang_s say when a black box is written: give keep_last too"
            )
        return None
    slow_step = slow_step_s
    if slow_step is not None or os.environ.get("RANKSCOPE_SLOW_STEP_S"):
        slow_step = _positive("slow_step_s", slow_step, "RANKSCOPE_SLOW_STEP_S", 1.0)
    steps = _positive("keep_last", keep_last, "RANKSCOPE_KEEP_LAST", 1)
    if steps != int(steps):
        raise UsageError(f"keep_last is {steps:g}, wanted a whole number of steps")
    return Watch(
        keep_last=int(steps),
        slow_step_s=slow_step,
        hang_s=_positive("hang_s", hang_s, "RANKSCOPE_HANG_S", _HANG_S),
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
