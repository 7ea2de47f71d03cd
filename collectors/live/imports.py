"""Act on a module once it is imported, whether that was before the tracer started or comes later.

With `python -m tracer script.py` the tracer starts before the script imports its framework.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Act = Callable[[ModuleType], None]


class Imports:
    """Modules that are waited for; `restore` ends the waiting.

    An error of an action goes to `on_error` and never into the import.
    """

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._finder = _Finder(on_error)

    def when_imported(self, name: str, act: Act) -> None:
        """Call `act(module)` now if the module `name` is imported already, else once it is."""
        module = sys.modules.get(name)
        if module is not None and not _is_loading(module):
            act(module)
            return
        self._finder.waiting.setdefault(name, []).append(act)
        if self._finder not in sys.meta_path:
            sys.meta_path.insert(0, self._finder)

    def restore(self) -> None:
        """Wait for nothing any more."""
        self._finder.waiting.clear()
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)


class _Finder(MetaPathFinder):
    """Asks the other finders for a module that is waited for and adds to what its loader does."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self.waiting: dict[str, list[Act]] = {}
        self.on_error = on_error

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.waiting:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = (
                None if finder is self or find is None else find(name, path, target)
            )
            if spec is not None:
                try:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader, self)
                except Exception as error:
                    self.on_error(error)
                return spec
        return None

    def loaded(self, module: ModuleType) -> None:
        """Call the actions that waited for this module."""
        for act in self.waiting.pop(module.__name__, []):
            try:
                act(module)
            except Exception as error:
                self.on_error(error)


class _Loader(Loader):
    """A module's own loader, and a call after it has run the module."""

    def __init__(self, own: Any, finder: _Finder) -> None:
        self._own = own
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._own.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self._own.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._own
        module.__loader__ = self._own
        try:
            self._finder.loaded(module)
        except Exception as error:
            self._finder.on_error(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def _is_loading(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))
