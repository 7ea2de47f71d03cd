"""What may fail inside the tracer, found by looking at its modules: one target for each.

| target | what fails |
| --- | --- |
| `tracer.rings:Ring.drain` | a function or method of ours, whoever holds a reference to it |
| `tracer.streams:ipc.new_stream()` | a call of ours to a function of another package |
| `recorder.clock` | a C function that an object of ours holds |
| `Path.write_text` | a method of an object of another package, called by us |
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import itertools
import pathlib
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import pyarrow as pa
import torch.profiler
import torch.utils.hooks

import collectors.live
import tracer
from tracer import streams
from tracer.recorder import Recorder

Undo = Callable[[], None]

NOT_IMPORTED: Final = (
    "collectors.live.huggingface",
    "collectors.live.lightning",
    "tracer.__main__",
    "tracer.launch",
)
"""Callbacks, called by frameworks that take long to import; what they call is a target. And the
command line, which does nothing but make a `Tracer`."""

_NEVER_CALLED: Final = ("__repr__", "__setattr__", "__delattr__", "__hash__")
"""What dataclasses make of themselves beside what we call."""

FOREIGN_METHODS: Final[tuple[tuple[Any, str], ...]] = (
    *((pathlib.Path, name) for name in ("exists", "glob", "mkdir", "touch", "unlink")),
    *((pathlib.Path, name) for name in ("read_text", "stat", "write_text")),
    *((threading.Thread, name) for name in ("is_alive", "join", "start")),
    *((threading.Event, name) for name in ("set", "wait")),
    (torch.utils.hooks.RemovableHandle, "remove"),
    *((torch.profiler.profile, name) for name in ("start", "stop")),
)


class Fault:
    """Raises `error` at the call number `at` (from 1; never if None), and counts the calls.

    Calls come from several threads, so the count is one step of C.
    """

    def __init__(self, at: int | None, error: type[Exception]) -> None:
        self.calls = 0
        self.fired = False
        self._at = at
        self._error = error
        self._numbers = itertools.count(1)

    def __call__(self) -> None:
        self.calls = next(self._numbers)
        if self.calls == self._at:
            self.fired = True
            raise self._error("injected")

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the fault in front."""

        def faulty(*args: Any, **kwargs: Any) -> Any:
            self()
            return function(*args, **kwargs)

        return faulty


@dataclass(frozen=True, slots=True)
class Target:
    """Something that may fail; `install` makes it fail and gives back what undoes that."""

    name: str
    install: Callable[[Fault], Undo]

    @property
    def module(self) -> str:
        """Where it is, for the report."""
        return self.name.partition(":")[0]


def modules() -> list[ModuleType]:
    """Every module of the tracer and the live collectors that can be imported here."""
    names = [
        name
        for package in (tracer, collectors.live)
        for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if name not in NOT_IMPORTED
    ]
    return [importlib.import_module(name) for name in names]


def targets() -> list[Target]:
    """All of them, in a fixed order."""
    found: list[Target] = []
    for module in modules():
        found += _functions(module)
        found += _foreign_calls(module)
    found += [_method(owner, name) for owner, name in FOREIGN_METHODS]
    found += [
        Target("recorder.clock", lambda fault: _of_recorders("clock", fault)),
        Target("recorder.next_correlation", lambda fault: _of_recorders("next_correlation", fault)),
        *(Target(f"stream.{name}", _of_streams(name)) for name in ("write_batch", "close")),
        Target("file.close", _of_files),
    ]
    return found


def _functions(module: ModuleType) -> Iterator[Target]:
    """Functions, methods and properties that the module defines, generated methods included."""
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            yield Target(f"{module.__name__}:{name}", _function(module, name, value))
        elif isinstance(value, type) and not getattr(value, "_is_protocol", False):
            for method, entry in vars(value).items():
                function = _function_of(entry)
                if method in _NEVER_CALLED or function is None:
                    continue
                if function.__module__ == module.__name__:
                    install = _function(value, method, function)
                    yield Target(f"{module.__name__}:{name}.{method}", install)


def _function_of(entry: Any) -> FunctionType | None:
    if isinstance(entry, (staticmethod, classmethod)):
        entry = entry.__func__
    if isinstance(entry, property):
        entry = entry.fget
    return entry if isinstance(entry, FunctionType) else None


def _function(owner: Any, name: str, value: FunctionType) -> Callable[[Fault], Undo]:
    """By its code where that is possible, since tables and closures hold references as well."""

    def install(fault: Fault) -> Undo:
        function = inspect.unwrap(value)
        if function.__code__.co_freevars:
            entry = vars(owner)[name]
            setattr(owner, name, fault.before(value))
            return lambda: setattr(owner, name, entry)
        return _replace_code(function, fault)

    return install


def _faulty(*args: Any, **kwargs: Any) -> Any:
    return _injected(args, kwargs)  # type: ignore[name-defined]  # noqa: F821


def _replace_code(function: FunctionType, fault: Fault) -> Undo:
    code: CodeType = function.__code__
    own = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    own.__kwdefaults__ = function.__kwdefaults__

    def injected(args: Any, kwargs: Any) -> Any:
        fault()
        return own(*args, **kwargs)

    name = f"_injected_{id(function)}"
    function.__globals__[name] = injected
    function.__code__ = _faulty.__code__.replace(co_names=(name,))

    def undo() -> None:
        # The global stays: another thread may be between the two for all we know.
        function.__code__ = code

    return undo


def _foreign_calls(module: ModuleType) -> Iterator[Target]:
    """Calls by name to what other packages define: `np.frombuffer(…)`, `pack_event(…)`."""
    seen = set()
    for dotted in _calls(ast.parse(inspect.getsource(module))):
        root, *attributes = dotted.split(".")
        value = vars(module).get(root, getattr(builtins, root, None) if root == "open" else None)
        if dotted in seen or value is None:
            continue
        seen.add(dotted)
        if attributes and isinstance(value, ModuleType) and _leads_to_a_function(value, attributes):
            yield Target(f"{module.__name__}:{dotted}()", _through_module(module, dotted))
        elif not attributes and _is_foreign_function(value):
            yield Target(f"{module.__name__}:{dotted}()", _global(module, root))


def _calls(tree: ast.AST) -> Iterator[str]:
    """Dotted names that are called inside of functions."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.Lambda)):
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    dotted = ast.unparse(node.func)
                    if dotted.replace(".", "").replace("_", "").isalnum():
                        yield dotted


def _leads_to_a_function(module: ModuleType, attributes: list[str]) -> bool:
    """Not through a class: what stands for it would be no class."""
    holder: Any = module
    for name in attributes[:-1]:
        holder = getattr(holder, name, None)
        if holder is None or isinstance(holder, type):
            return False
    return hasattr(holder, attributes[-1])


def _is_foreign_function(value: Any) -> bool:
    module = getattr(value, "__module__", None) or ""
    ours = module.startswith(("tracer.", "collectors."))
    return callable(value) and not isinstance(value, type) and not ours


def _global(module: ModuleType, name: str) -> Callable[[Fault], Undo]:
    def install(fault: Fault) -> Undo:
        is_builtin = name not in vars(module)
        own = getattr(builtins if is_builtin else module, name)
        setattr(module, name, fault.before(own))

        def undo() -> None:
            if is_builtin:
                delattr(module, name)
            else:
                setattr(module, name, own)

        return undo

    return install


def _through_module(module: ModuleType, dotted: str) -> Callable[[Fault], Undo]:
    root, *attributes = dotted.split(".")

    def install(fault: Fault) -> Undo:
        own = vars(module)[root]
        setattr(module, root, _Through(own, attributes, fault))
        return lambda: setattr(module, root, own)

    return install


class _Through:
    """Stands for a module (or what is in it) of which one function fails."""

    def __init__(self, own: Any, path: list[str], fault: Fault) -> None:
        self._own = own
        self._path = path
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._own, name)
        if name != self._path[0]:
            return value
        if len(self._path) == 1:
            return self._fault.before(value)
        return _Through(value, self._path[1:], self._fault)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._own)

    def __contains__(self, value: object) -> bool:
        return value in self._own

    def __getitem__(self, key: Any) -> Any:
        return self._own[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._own[key] = value


def _method(owner: Any, name: str) -> Target:
    """A method of another package's class, where a module of ours calls it."""

    def install(fault: Fault) -> Undo:
        entry = vars(owner)[name]

        def faulty(*args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.startswith(("tracer.", "collectors.")):
                fault()
            return entry(*args, **kwargs)

        setattr(owner, name, faulty)
        return lambda: setattr(owner, name, entry)

    return Target(f"{owner.__name__}.{name}", install)


def _of_recorders(name: str, fault: Fault) -> Undo:
    """A callable that every recorder holds from its construction on."""
    own = Recorder.__init__

    def faulty(recorder: Recorder, *args: Any, **kwargs: Any) -> None:
        own(recorder, *args, **kwargs)
        setattr(recorder, name, fault.before(getattr(recorder, name)))

    Recorder.__init__ = faulty  # type: ignore[method-assign]

    def undo() -> None:
        Recorder.__init__ = own  # type: ignore[method-assign]

    return undo


def _of_streams(name: str) -> Callable[[Fault], Undo]:
    """Arrow's stream writer, a class of C."""

    def install(fault: Fault) -> Undo:
        own = streams.ipc

        class Ipc:
            def __getattr__(self, attribute: str) -> Any:
                return getattr(own, attribute)

            def new_stream(self, *args: Any, **kwargs: Any) -> Any:
                return _Through(own.new_stream(*args, **kwargs), [name], fault)

        streams.ipc = Ipc()  # type: ignore[assignment]

        def undo() -> None:
            streams.ipc = own

        return undo

    return install


def _of_files(fault: Fault) -> Undo:
    """The files under Arrow's stream writer."""

    class Faulty(pa.OSFile):
        def close(self) -> None:
            fault()
            super().close()

    own, streams.pa.OSFile = streams.pa.OSFile, Faulty
    return lambda: setattr(streams.pa, "OSFile", own)
