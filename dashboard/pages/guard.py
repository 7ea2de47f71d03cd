"""Who may ask the dashboard's server what: host, token, address, headers.

The server listens on 127.0.0.1 and answers only requests that name that host (a web page that
rebinds its DNS name to 127.0.0.1 therefore gets nothing). On any other address every request
needs the token, from the query once and from then on from a cookie.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from dash.exceptions import DependencyException
from flask import Flask, Request, Response, request
from markupsafe import escape
from werkzeug.exceptions import HTTPException

from dashboard.pages.state import MAX_QUERY_CHARACTERS, BadView, parse

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_COOKIE: Final = "rankscope_token"
_DASH_CATCH_ALL: Final = "/<path:path>"
"""Dash answers every address that nobody else does with the app's page; only pages shall."""

_MAX_BODY_BYTES: Final = 1 << 20
"""Dash posts the inputs of one callback; ours are a few hundred bytes."""

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def guard(server: Flask, *, page_paths: Sequence[str], run_count: int, token: str | None) -> None:
    """Check every request before anything else sees it, and harden every reply.

    `page_paths`: the pages' addresses; `/` leads to the first.
    """
    server.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES

    @server.before_request
    def check() -> Response | None:
        if len(request.query_string) > MAX_QUERY_CHARACTERS:
            return refusal(400, "The address is too long.")
        if token is None:
            if _host_name(request) not in LOOPBACK_HOSTS:
                return refusal(403, "This dashboard answers only to 127.0.0.1 and localhost.")
        elif (reply := _check_token(request, token)) is not None:
            return reply
        if request.path == "/":
            query = request.query_string.decode("ascii", "replace")
            return _redirect(page_paths[0] + (f"?{query}" if query else ""))
        if request.path in page_paths:
            return _check_view(request, run_count)
        if request.url_rule is None or request.url_rule.rule == _DASH_CATCH_ALL:
            return refusal(404, "There is no such page.")
        return None

    @server.after_request
    def harden(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @server.errorhandler(DependencyException)
    def miss(_: DependencyException) -> Response:
        """Dash has no such script of its own."""
        return refusal(404, "There is no such file.")

    @server.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        return refusal(error.code or 500, error.description or error.name)


def content_security_policy(script_hashes: Collection[str]) -> str:
    """Only our own files; no script but those and the inline ones with these hashes."""
    scripts = " ".join(["'self'", *script_hashes])
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def add_policy(server: Flask, hashes: Callable[[], Collection[str]]) -> None:
    """Send the content security policy; `hashes` is asked once, when callbacks are complete."""
    policy: list[str] = []

    @server.after_request
    def harden(response: Response) -> Response:
        if not policy:
            policy.append(content_security_policy(hashes()))
        response.headers["Content-Security-Policy"] = policy[0]
        return response


def _host_name(asked: Request) -> str:
    name, separator, port = asked.host.rpartition(":")
    return name if separator and port.isdigit() else asked.host


def _check_token(asked: Request, token: str) -> Response | None:
    given = asked.args.get("token")
    if given is None:
        known = asked.cookies.get(_COOKIE, "")
        if _same(known, token):
            return None
        return refusal(401, "This dashboard needs the token that it printed at its start.")
    if not _same(given, token):
        return refusal(401, "The token is not the one that this dashboard printed.")
    rest: list[tuple[str, Any]] = [(k, v) for k, v in asked.args.items(True) if k != "token"]
    # one slash: two would make the browser read a host name
    path = "/" + asked.path.lstrip("/")
    reply = _redirect(path + ("?" + urlencode(rest) if rest else ""))
    reply.set_cookie(_COOKIE, token, httponly=True, samesite="Strict")
    return reply


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _check_view(asked: Request, run_count: int) -> Response | None:
    try:
        parse(asked.query_string.decode("utf-8", "replace"), run_count)
    except BadView as error:
        return refusal(400, f"This address names no view: {error}.")
    return None


def _redirect(target: str) -> Response:
    return Response(status=302, headers={"Location": target})


def refusal(status: int, why: str) -> Response:
    """A small page that says why."""
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Rankscope</title>'
        '<link rel="icon" href="data:,">'
        '<body style="font-family:system-ui,sans-serif;margin:15vh auto;max-width:32rem">'
        f'<h1 style="font-size:1.1rem">{status}</h1><p>{escape(why)}</p>'
        '<p><a href="/">Open the dashboard</a></p></body></html>'
    )
    return Response(page, status=status, mimetype="text/html")
