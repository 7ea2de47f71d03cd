"""What the browser may post: a call of one of our callbacks, in the form that Dash writes it.

Dash itself believes the body of a request; one that was written by hand would end in a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from dashboard.pages.guard import refusal

PATH: Final = "/_dash-update-component"
_MAX_DEPTH: Final = 10
"""A view lies 5 deep in a call; Dash walks through it by recursion."""


def check_calls(server: Flask, callbacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what is no call of one of `callbacks` (Dash's own table, output → callback)."""

    @server.before_request
    def check() -> Response | None:
        if request.path != PATH or request.method != "POST":
            return None
        if not _is_call(_body(), callbacks):
            return refusal(400, "This is no call of a callback of this dashboard.")
        return None


def _body() -> Any:
    try:
        return request.get_json(silent=True)
    except HTTPException:
        raise
    except RecursionError:
        return None


def _is_call(body: Any, callbacks: Mapping[str, Mapping[str, Any]]) -> bool:
    if not isinstance(body, dict) or _deeper_than(body, _MAX_DEPTH):
        return False
    output = body.get("output")
    known = callbacks.get(output) if isinstance(output, str) else None
    if known is None or "callback" not in known:
        return False
    changed = body.get("changedPropIds", [])
    return (
        _names([body.get("outputs")]) == [output]
        and _names(body.get("inputs")) == _names(known["inputs"])
        and _names(body.get("state", [])) == _names(known["state"])
        and isinstance(changed, list)
        and all(isinstance(name, str) for name in changed)
    )


def _names(properties: Any) -> list[str] | None:
    """`[{"id": "a", "property": "b", …}]` → `["a.b"]`; None for anything else."""
    if not isinstance(properties, list):
        return None
    if not all(isinstance(one, dict) and {"id", "property"} <= one.keys() for one in properties):
        return None
    return [f"{one['id']}.{one['property']}" for one in properties]


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        parts = [list(one.values()) if isinstance(one, dict) else one for one in level]
        level = [part for one in parts if isinstance(one, list) for part in one]
    return bool(level)
