"""What two runs were told to do differently: mesh, schedule, configuration, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dashboard.runs import Recording

_LONGEST: Final = 200
"""Characters of a value: what is longer is not read, and would bury the others."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Difference:
    """One fact that is not the same in both runs, as text."""

    what: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.what}: {self.a} → {self.b}"


def run_differences(a: Recording, b: Recording) -> tuple[Difference, ...]:
    """All such facts, in the order of the module's title; nothing where the runs are alike."""
    return tuple(
        Difference(what=what, a=_said(of_a), b=_said(of_b))
        for what, of_a, of_b in _facts(a, b)
        if of_a != of_b
    )


def _facts(a: Recording, b: Recording) -> Iterator[tuple[str, Any, Any]]:
    yield "world size", a.meta.world_size, b.meta.world_size
    yield "mesh", _mesh(a), _mesh(b)
    yield "schedule", _schedule(a), _schedule(b)
    for what in ("config", "versions"):
        of_a, of_b = _leaves(getattr(a.meta, what)), _leaves(getattr(b.meta, what))
        for name in sorted(of_a.keys() | of_b.keys()):
            yield f"{what} {name}", of_a.get(name), of_b.get(name)


def _leaves(values: Mapping[str, Any]) -> dict[str, Any]:
    """{"optimizer": {"lr": 0.1}} → {"optimizer.lr": 0.1}"""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": leaf for inner, leaf in _leaves(value).items()}
        else:
            found[name] = value
    return found


def _mesh(run: Recording) -> str | None:
    mesh = run.meta.mesh
    if mesh is None:
        return None
    return " × ".join(f"{name} {size}" for name, size in zip(mesh.names, mesh.shape, strict=True))


def _schedule(run: Recording) -> str | None:
    plan = run.meta.schedule
    return None if plan is None else f"{plan.name}, {plan.microbatches} microbatches"


def _said(value: Any) -> str:
    if value is None:
        return "(not set)"
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
