"""Run a script or a module as `python` itself would: in `__main__`, until the process ends.

`runpy.run_path` and `run_module` run them in a module of their own and take it away when they
return. Their names then die in a living interpreter, where `python` keeps them until it ends: a
process group among them is taken down under a rank that still waits for this one, or waits for a
thread of its own which waits for the interpreter's lock. And who has imported `__main__` before
(dill does, when torch is imported) has another module than the script's.
"""

from __future__ import annotations

import builtins
import importlib.util
import os
import pkgutil
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader, SourcelessFileLoader
from types import ModuleType
from typing import Any

_hosts: list[ModuleType] = []
"""What was `__main__` before where that was not ours, as under cProfile: it goes on after us."""


def run_script(path: str) -> None:
    """As `python PATH` does: a file, or a directory or archive with a `__main__.py` in it.

    Raises what the script raises, and ImportError where there is no `__main__.py`.
    """
    file = os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(file) is not None:
        if sys.flags.safe_path:
            sys.path.insert(0, file)
        else:
            sys.path[0] = file
        spec = PathFinder.find_spec("__main__", [file])
        if spec is None:
            raise ImportError(f"no __main__.py in {path}")
        _run_found(spec)
        return
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(file))
    if file.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", file)
        _run(compiled.get_code("__main__"), __file__=file, __loader__=compiled)
    else:
        source = SourceFileLoader("__main__", file)
        code = source.source_to_code(source.get_data(file), file)
        _run(code, __file__=file, __loader__=source)


def run_module(name: str) -> None:
    """As `python -m NAME` does: a module, or a package with a `__main__` in it.

    Raises what the module raises, and ImportError where there is none of that name.
    """
    sys.argv[0] = "-m"  # while packages around it are imported
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(f"no module named {name}")
    if spec.origin is not None:
        sys.argv[0] = spec.origin
    _run_found(spec)


def _run_found(spec: ModuleSpec) -> None:
    read = getattr(spec.loader, "get_code", None)
    code = None if read is None else read(spec.name)
    if code is None:
        raise ImportError(f"no Python code in {spec.origin}")
    _run(
        code,
        __file__=spec.origin,
        __cached__=spec.cached,
        __loader__=spec.loader,
        __package__=spec.parent,
        __spec__=spec,
    )


def _run(code: Any, **about: Any) -> None:
    main = sys.modules["__main__"]
    if getattr(main.__spec__, "name", None) != "tracer.__main__":
        _hosts.append(main)
        main = sys.modules["__main__"] = ModuleType("__main__")
    names = main.__dict__
    names.clear()  # of what called us
    names.update(
        __name__="__main__",
        __doc__=None,
        __package__=None,
        __spec__=None,
        __annotations__={},
        __builtins__=builtins,
        __cached__=None,
    )
    names.update(about)
    exec(code, names)
