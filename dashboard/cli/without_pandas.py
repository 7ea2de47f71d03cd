"""Keeps pandas out of a command's process.

pyarrow imports pandas, where it is installed, with the first array that it makes, to see whether
what it was given is pandas': 0.3 s and 40 MB of every command, of which none has a use for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoPandas(MetaPathFinder, Loader):
    """Finds pandas in place of those who would load it, and does not load it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == "pandas" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ModuleNotFoundError("rankscope does without pandas", name=spec.name)


@contextmanager
def without_pandas() -> Iterator[None]:
    """While the block runs, imports of pandas fail. For processes of our own only: pyarrow
    remembers that there was none.
    """
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
