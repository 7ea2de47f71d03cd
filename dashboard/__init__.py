"""Read what the tracer recorded: numbers, figures and a dashboard, without torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dashboard.run import Run, open_run

__all__ = ["Run", "open_run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dashboard import run  # when it is asked for: `rankscope --help` opens no run

    found = globals()[name] = getattr(run, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
