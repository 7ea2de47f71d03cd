"""What the timeline's routes share: values of the query checked, replies compressed."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Final

import pyarrow as pa
from flask import Response, request

from tracer.errors import RankscopeError, UsageError

_WORTH_COMPRESSING: Final = 4_096
"""Bytes; smaller replies fit into a few packets anyhow."""
_ENCODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "zstd": partial(pa.Codec("zstd", compression_level=1).compress, asbytes=True),
    "gzip": partial(gzip.compress, compresslevel=1),
}
"""By preference. The fastest levels: a reply of 1 MB takes them 3 and 15 ms."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,16}")
"""Up to 1e16 ns (116 days) either side of the run's start, exact in a double."""


def compressed(reply: Response) -> Response:
    """The same in fewer bytes, if the browser takes them and they are worth it."""
    body = reply.get_data()
    if len(body) < _WORTH_COMPRESSING:
        return reply
    for encoding, compress in _ENCODINGS.items():
        if request.accept_encodings[encoding]:
            reply.set_data(compress(body))
            reply.headers["Content-Encoding"] = encoding
            break
    reply.headers["Vary"] = "Accept-Encoding"
    return reply


def asked_span() -> tuple[int, int]:
    """`t0` and `t1`, ns from the run's start; UsageError unless they are in order."""
    start, end = asked_number("t0"), asked_number("t1")
    if end <= start:
        raise UsageError(f"t1={end} is not after t0={start}")
    return start, end


def asked_number(name: str, low: int | None = None, high: int | None = None) -> int:
    """A whole number of the query, within these limits; UsageError if it is none."""
    text = request.args.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise UsageError(f"{name}={text[:40]!r}: wanted a whole number")
    value = int(text)
    if (low is not None and value < low) or (high is not None and value > high):
        raise UsageError(f"{name}={value}: wanted {low} to {high}")
    return value


def refuse_with_400(view: Callable[..., Response]) -> Callable[..., Response]:
    """Our errors become status 400 and one line of text."""

    @wraps(view)
    def checked(**arguments: int) -> Response:
        try:
            return view(**arguments)
        except RankscopeError as error:
            return Response(str(error), status=400, mimetype="text/plain")

    return checked
