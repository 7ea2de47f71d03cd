"""A real S3 endpoint on loopback (moto's server), with a log of what was asked of it and sent."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

BUCKET = "traces"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(kw_only=True, slots=True, frozen=True)
class Request:
    """One request: `sent` bytes of body went to the client."""

    method: str
    path: str
    range: str | None
    sent: int
    status: int


@dataclass
class Endpoint:
    """An S3 endpoint with one bucket; `log` has every request, in order of its answer."""

    log: list[Request] = field(default_factory=list)
    url: str = ""
    fail: Callable[[str, str], bool] = lambda method, path: False
    """Which requests are to be answered with an error of the server."""

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return CREDENTIALS | {"AWS_ENDPOINT_URL": self.url}

    def address(self, name: str) -> str:
        """Of a run in the bucket."""
        return f"s3://{BUCKET}/{name}"

    def sent(self, pattern: str = ".*") -> int:
        """Bytes of bodies that answers to GET had, of paths that match."""
        chosen = [r for r in self.log if r.method == "GET" and re.search(pattern, r.path)]
        return sum(request.sent for request in chosen)

    def forget(self) -> None:
        """Begin the log anew."""
        self.log.clear()


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Serve until the end of the block."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    here = Endpoint()
    store = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()  # moto's buckets are not made for several threads

    def logged(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], unquote(environ["PATH_INFO"])
        statuses: list[int] = []

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            statuses.append(int(status.partition(" ")[0]))
            return start_response(status, headers, exc_info)

        if here.fail(method, path):
            start("403 Forbidden", [("Content-Length", "0")])
            body: list[bytes] = []
        else:
            with one_at_a_time:
                body = list(store(environ, start))
        sent = sum(len(piece) for piece in body)
        asked = environ.get("HTTP_RANGE")
        here.log.append(
            Request(method=method, path=path, range=asked, sent=sent, status=statuses[-1])
        )
        return body

    server = make_server("127.0.0.1", 0, logged, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    here.url = f"http://127.0.0.1:{server.server_port}"
    try:
        _make_bucket(here)
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _make_bucket(here: Endpoint) -> None:
    from pyarrow import fs

    files = fs.S3FileSystem(
        access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=here.url,
        region="us-east-1",
        allow_bucket_creation=True,
    )
    files.create_dir(BUCKET)
    here.forget()
