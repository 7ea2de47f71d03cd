"""`rankscope dashboard RUN …`: serve the dashboard for some runs until Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import time
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dashboard.cli.indexing import indexed
from dashboard.cli.opening import open_run
from dashboard.cli.options import RunLocation
from dashboard.run import Run
from dashboard.runs.attempts import other_attempts
from dashboard.runs.follow import Follower
from dashboard.runs.stores import shown
from tracer.errors import TraceError, UsageError

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

_LOOPBACK: Final = "127.0.0.1"
_LOOK_EVERY_S: Final = 0.5
_TOKEN_BYTES: Final = 16
"""128 bits: not to be guessed over a network."""


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="RUN...", type=RunLocation())
@click.option(
    "--port",
    default=8050,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="0 takes a free one.",
)
@click.option(
    "--host",
    default=_LOOPBACK,
    show_default=True,
    help="Address to listen on; any but the default makes a token necessary, which is printed.",
)
@click.option(
    "--follow", is_flag=True, help="The runs are being recorded: show new steps as they come."
)
@click.option("--open/--no-open", "open_browser", default=False, help="Open a browser tab.")
def dashboard(
    paths: tuple[Path | str, ...], port: int, host: str, follow: bool, open_browser: bool
) -> None:
    """Show recorded runs in the browser.

    \b
    Examples:
      rankscope dashboard runs/a                 one run
      rankscope dashboard runs/a runs/b          two, to compare
      rankscope dashboard --follow runs/a        while the training records into runs/a
    """
    followers = [Follower(followed(path), Run) for path in paths] if follow else []
    try:
        server, url = start_server(paths, host=host, port=port, followers=followers)
        click.echo(f"Rankscope dashboard: {url}   (Ctrl-C ends it)")
        if open_browser:
            webbrowser.open(url)
        try:
            server.serve_forever()
        finally:
            server.server_close()
    except KeyboardInterrupt:
        click.echo("\nEnded.")
    finally:
        for follower in followers:
            follower.stop()


def followed(path: Path | str) -> Path:
    """A recording grows in a directory.

    Raises:
        UsageError: it is an address on an object store.
    """
    if isinstance(path, str):
        raise UsageError(f"{shown(path)}: --follow needs the directory that the training writes to")
    return path


def start_server(
    paths: Sequence[Path | str],
    *,
    host: str = _LOOPBACK,
    port: int = 0,
    followers: Sequence[Follower[Run]] = (),
) -> tuple[BaseWSGIServer, str]:
    """A listening server for these runs, and the address to open; `serve_forever()` runs it.

    followers: of `paths`, where these are still being recorded; waits for what is not there yet.

    Raises:
        RankscopeError: a run cannot be read, or the address cannot be listened on.
    """
    from werkzeug.serving import make_server

    from dashboard.pages import live
    from dashboard.pages.app import build_app

    if followers:
        runs = [_first_of(follower) for follower in followers]
    else:
        runs = [*(indexed(open_run(path)) for path in paths), *map(indexed, _other_attempts(paths))]
    token = None if host in (_LOOPBACK, "localhost") else secrets.token_urlsafe(_TOKEN_BYTES)
    by_number = dict(enumerate(followers))
    app = build_app(runs, token=token, followers=by_number)
    live.follow(runs, by_number)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    check_free(host, port)
    server = make_server(host, port, app.server, threaded=True)
    query = "" if token is None else f"?token={token}"
    return server, f"http://{url_host(host)}:{server.server_port}/{query}"


def _first_of(follower: Follower[Run]) -> Run:
    """The run once there is something to open; says what it waits for."""
    said = ""
    while (run := follower.look()) is None:
        status = follower.status
        why = status.said or f"{status.path}: nothing is recorded there yet"
        if why != said:
            click.echo(f"Waiting: {why}", err=True)
            said = why
        time.sleep(_LOOK_EVERY_S)
    return run


def _other_attempts(locations: Sequence[Path | str]) -> Iterator[Run]:
    """The attempts of a restarted training that were not named; what cannot be opened is left."""
    paths = [place for place in locations if isinstance(place, Path)]
    seen = {path.resolve() for path in paths}
    for other in (other for path in paths for other in other_attempts(path)):
        if other.resolve() not in seen:
            seen.add(other.resolve())
            with contextlib.suppress(TraceError):
                yield open_run(other)


def check_free(host: str, port: int) -> None:
    """Werkzeug ends the process when it cannot listen; so ask before, and say what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port} ({error.strerror or error}); "
                "--port 0 takes a free port"
            ) from error


def url_host(host: str) -> str:
    """The address as a browser on this machine can use it."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
