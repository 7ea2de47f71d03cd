"""Replace attributes and put every one of them back exactly as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_ABSENT: Final = object()


class Patches:
    """A stack of replaced attributes.

    What is kept is the entry of the owner's own `__dict__`, not what `getattr` returns: for
    methods of C++ classes only the entry still binds when it is put back.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
        """Set `owner.name` to `wrap(what getattr gives now)`; nothing if there is no such name."""
        current = getattr(owner, name, _ABSENT)
        if current is _ABSENT:
            return
        self._kept.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, wrap(current))

    def restore(self) -> None:
        """Undo every replacement, the last one first."""
        while self._kept:
            owner, name, entry = self._kept.pop()
            if entry is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, entry)
