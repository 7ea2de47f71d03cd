"""Replace attributes and put every one of them back exactly as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

_ABSENT: Final = object()


class _Replaced(NamedTuple):
    owner: Any
    name: str
    entry: Any
    ours: Any


class Patches:
    """A stack of replaced attributes.

    What is kept is the entry of the owner's own `__dict__`, not what `getattr` returns: for
    methods of C++ classes only the entry still binds when it is put back.
    """

    def __init__(self) -> None:
        self._kept: list[_Replaced] = []

    def replace(self, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
        """Set `owner.name` to `wrap(what getattr gives now)`; nothing if there is no such name."""
        current = getattr(owner, name, _ABSENT)
        if current is _ABSENT:
            return
        ours = wrap(current)
        self._kept.append(_Replaced(owner, name, vars(owner).get(name, _ABSENT), ours))
        setattr(owner, name, ours)

    def restore(self) -> None:
        """Undo every replacement, the last one first.

        Where somebody else has put theirs over ours meanwhile, theirs stays: it leads to ours,
        which only passes on once the recorder is inactive.
        """
        while self._kept:
            owner, name, entry, ours = self._kept.pop()
            if vars(owner).get(name) is not ours:
                continue
            if entry is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, entry)


class OperatorFunction:
    """Stands where an operator object keeps the function that it calls.

    It hashes as what it replaces, since an operator's own hash is taken from there.
    """

    def __init__(self, original: Any, traced: Callable[..., Any]) -> None:
        self._original = original
        self._traced = traced

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the hook, which calls the original."""
        return self._traced(*args, **kwargs)

    def __hash__(self) -> int:
        return hash(self._original)

    def __eq__(self, other: object) -> bool:
        return other is self or other == self._original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)
