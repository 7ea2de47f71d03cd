"""`rankscope metrics RUN …`: numbers of a run for Prometheus and OpenTelemetry."""

from __future__ import annotations

import secrets
import signal
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import click

from dashboard.cli.options import RunLocation, opened
from dashboard.metrics import prometheus
from dashboard.metrics.numbers import Keeper
from dashboard.run import Run
from dashboard.runs.follow import Follower
from tracer.errors import UsageError

_LOOPBACK: Final = "127.0.0.1"
_TOKEN_BYTES: Final = 16


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="RUN...", type=RunLocation())
@click.option("--follow", is_flag=True, help="The runs are being recorded: keep the numbers fresh.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="With --follow: answer scrapes at http://HOST:PORT/metrics; 0 takes a free port.",
)
@click.option(
    "--host",
    show_default=_LOOPBACK,
    help="With --port: address to listen on; any but the default makes a token necessary.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --port: file with the token that scrapes have to bear; where one is necessary and "
    "none is named, a new one is printed.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.prom",
    help="Write the numbers to a file for the node exporter's textfile collector.",
)
@click.option("--otlp", metavar="URL", help="Push over OTLP: http://collector:4318/v1/metrics.")
@click.option(
    "--every",
    default=15.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Seconds between two pushes or writes.",
)
def metrics(
    paths: tuple[Path | str, ...],
    follow: bool,
    port: int | None,
    host: str | None,
    token_file: Path | None,
    out: Path | None,
    otlp: str | None,
    every: float,
) -> None:
    """Print the numbers of the last step of RUN, and sums over all steps, as Prometheus reads them;
    or, while it is being recorded, keep telling them.

    Runs beside the training, on the files that the ranks write: it can be started and stopped at
    any time, and costs the training nothing.

    \b
    Examples:
      rankscope metrics runs/a                                   print once
      rankscope metrics runs/a --follow --port 9464              answer scrapes
      rankscope metrics runs/a --follow -o /var/lib/node_exporter/rankscope.prom
      rankscope metrics runs/a --follow --otlp http://collector:4318/v1/metrics

    docs/monitoring.md lists the numbers and has rules for alerts.
    """
    if port is not None and not follow:
        raise UsageError("--port answers scrapes for as long as it runs; it needs --follow")
    for option, given in (("--host", host), ("--token-file", token_file)):
        if given is not None and port is None:
            raise UsageError(f"{option} is about answering scrapes; it needs --port (and --follow)")
    if follow and port is None and out is None and otlp is None:
        raise UsageError("--follow needs somebody to tell: --port, -o FILE.prom or --otlp URL")
    with ExitStack() as stack:
        if follow:  # a supervisor ends a service so: the last numbers are told then as well
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)
            stack.callback(signal.signal, signal.SIGTERM, before)
        following = stack.enter_context(ExitStack())
        keepers = _followed(paths, following) if follow else [_read(path) for path in paths]
        if otlp is not None:
            from dashboard.metrics.otlp import Sender

            stack.callback(Sender(keepers, otlp, every).close)
        if out is not None:
            prometheus.write(keepers, out)
        if not follow:
            if out is None and otlp is None:
                click.echo(prometheus.text(keepers), nl=False)
            return
        try:
            if port is not None:
                _serve(keepers, host or _LOOPBACK, port, token_file, stack)
            _wait(keepers, out, every)
        except KeyboardInterrupt:
            following.close()  # what is being read now is told as well
            if out is not None:
                prometheus.write(keepers, out)
            click.echo("\nEnded.")


def _read(path: Path | str) -> Keeper:
    run = opened(path)
    keeper = Keeper(run.name)
    keeper.update(run)
    return keeper


def _followed(paths: tuple[Path | str, ...], following: ExitStack) -> list[Keeper]:
    from dashboard.cli.dashboard import followed

    keepers = []
    for location in paths:
        path = followed(location)
        follower = Follower(path, Run)
        keeper = Keeper(path.resolve().name, partial(getattr, follower, "status"))
        following.callback(follower.stop)
        follower.start(partial(_updated, keeper))
        keepers.append(keeper)
    return keepers


def _updated(keeper: Keeper, run: Run) -> None:
    """What an opening cannot be asked is said, and asked of the next one."""
    try:
        keeper.update(run)
    except Exception as error:  # the numbers of other runs, and of later steps, go on
        click.echo(f"! {run.path}: {type(error).__name__}: {error}", err=True)


def _serve(
    keepers: list[Keeper], host: str, port: int, token_file: Path | None, stack: ExitStack
) -> None:
    from werkzeug.serving import make_server

    from dashboard.cli.dashboard import check_free, url_host

    token = _token(host, token_file)
    check_free(host, port)
    server = make_server(host, port, prometheus.application(keepers, token), threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="rankscope-metrics", daemon=True)
    thread.start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    where = f"http://{url_host(host)}:{server.server_port}/metrics"
    click.echo(f"Numbers for Prometheus: {where}   (Ctrl-C or SIGTERM ends it)")
    if token is not None and token_file is None:
        click.echo(f"Scrapes have to bear the token {token}")


def _token(host: str, token_file: Path | None) -> str | None:
    """What scrapes have to bear; None on the loopback, unless a file names a token.

    Raises:
        UsageError: the file cannot be read, or holds none: an empty one would let everybody in.
    """
    if token_file is None:
        on_loopback = host in (_LOOPBACK, "localhost")
        return None if on_loopback else secrets.token_urlsafe(_TOKEN_BYTES)
    try:
        token = token_file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise UsageError(f"{token_file}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise UsageError(f"{token_file}: a token is ASCII text, and this is not") from error
    if not token:
        raise UsageError(f"{token_file}: is empty; it has to hold the token that scrapes bear")
    return token


def _wait(keepers: list[Keeper], out: Path | None, every: float) -> None:
    never = threading.Event()
    while not never.wait(every):
        if out is not None:
            prometheus.write(keepers, out)
