"""Read a pickle that holds data alone: lists, tuples, dicts, text, numbers; nothing that runs.

A pickle is a program: it can name any function and call it. The flight recorder's dumps need none
of that, so everything but the making of builtin containers and scalars is refused, by name.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from tracer.errors import DamagedTrace
from tracer.text import plain_text

MAX_BYTES: Final = 64 << 20
"""A dump of the default 2,000 operations with their stacks takes below 2 MB; in memory it takes
up to twenty times as much."""
_MAX_CONTAINERS: Final = 4_000_000
"""Lists, tuples and dicts of 64 bytes each; an operation has about ten."""
_MAX_DEPTH: Final = 64
"""Values that are open at the same time; a dump has six."""

_SCALARS: Final = (
    pickle.NONE,
    pickle.NEWTRUE,
    pickle.NEWFALSE,
    pickle.BININT,
    pickle.BININT1,
    pickle.BININT2,
    pickle.LONG1,
    pickle.BINFLOAT,
    pickle.BINUNICODE,
    pickle.SHORT_BINUNICODE,
)
_CONTAINERS: Final = (
    pickle.EMPTY_LIST,
    pickle.EMPTY_DICT,
    pickle.EMPTY_TUPLE,
    pickle.TUPLE,
    pickle.TUPLE1,
    pickle.TUPLE2,
    pickle.TUPLE3,
)
_FILLING: Final = (
    pickle.MARK,
    pickle.APPEND,
    pickle.APPENDS,
    pickle.SETITEM,
    pickle.SETITEMS,
    pickle.BINGET,
    pickle.LONG_BINGET,
    pickle.BINPUT,
    pickle.LONG_BINPUT,
    pickle.MEMOIZE,
    pickle.PROTO,
    pickle.FRAME,
    pickle.STOP,
)
_NAMING: Final = (pickle.GLOBAL, pickle.STACK_GLOBAL)
"""Understood only so that the refusal can say what they name."""


def read_data_pickle(path: Path) -> Any:
    """What the pickle in a file holds.

    Raises:
        DamagedTrace: it is too large, damaged, or asks for more than builtin data.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DamagedTrace(
            f"{path}: larger than {MAX_BYTES >> 20} MB; keep fewer operations "
            "(TORCH_FR_BUFFER_SIZE)"
        )
    try:
        return _Unpickler(io.BytesIO(path.read_bytes())).load()
    except _Refused as refused:
        raise DamagedTrace(f"{path}: {refused}; it is not loaded") from refused
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        IndexError,
        LookupError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        why = plain_text(str(error)) or type(error).__name__
        raise DamagedTrace(f"{path}: not a pickle of data, or cut off ({why})") from error


class _Refused(Exception):
    """The pickle asks for something that data does not need."""


class _Table(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> NoReturn:
        raise _Refused(f"the pickle does more than hold data (operation {code:#04x})")


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler (the one in C believes any size that a file claims), less what is
    not in the lists above.
    """

    dispatch = _Table(
        (code[0], pickle._Unpickler.dispatch[code[0]]) for code in (*_SCALARS, *_FILLING, *_NAMING)
    )

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.made = 0

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse, whatever is named."""
        raise _Refused(
            f"the pickle names {plain_text(repr(f'{module}.{name}'))}; a dump holds lists, dicts, "
            "text and numbers alone"
        )

    def count(self, what: Callable[[Any], None]) -> None:
        """Make one container more, if that is not too many."""
        self.made += 1
        if self.made > _MAX_CONTAINERS:
            raise _Refused(f"the pickle makes more than {_MAX_CONTAINERS:,} lists and dicts")
        what(self)


def _counted(what: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda unpickler: unpickler.count(what)


def _marked(unpickler: Any) -> None:
    if len(unpickler.metastack) > _MAX_DEPTH:
        raise _Refused(f"the pickle is nested more than {_MAX_DEPTH} deep")
    pickle._Unpickler.dispatch[pickle.MARK[0]](unpickler)


def _set_item(unpickler: Any) -> None:
    _check_keys(unpickler.stack[-2:-1])
    pickle._Unpickler.dispatch[pickle.SETITEM[0]](unpickler)


def _set_items(unpickler: Any) -> None:
    _check_keys(unpickler.stack[::2])
    pickle._Unpickler.dispatch[pickle.SETITEMS[0]](unpickler)


def _check_keys(keys: list[Any]) -> None:
    """A tuple of tuples of tuples may take forever to hash, or the whole stack."""
    for key in keys:
        if type(key) not in (str, int):
            raise _Refused(f"the pickle has a dict with {type(key).__name__} keys")


_Unpickler.dispatch.update(
    (code[0], _counted(pickle._Unpickler.dispatch[code[0]])) for code in _CONTAINERS
)
_Unpickler.dispatch.update(
    {pickle.MARK[0]: _marked, pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items}
)
