"""Requests that mean harm: refused in a few words; no file is shown to them and none written."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from dashboard import open_run
from dashboard.pages.app import PAGES, build_app
from tests.dashboard.cli.test_dashboard import serving
from tests.support.pipeline_toy import write_pipeline

WINDOW = "/api/timeline/0/window?t0=0&t1=260000&width=100&row0=0&row1=9"
CALL = {
    "output": "shell-page.children",
    "outputs": {"id": "shell-page", "property": "children"},
    "inputs": [
        {
            "id": "shell-view",
            "property": "data",
            "value": {"pathname": "/pipeline", "search": "?steps=0-1"},
        }
    ],
    "changedPropIds": ["shell-view.data"],
}
SCHEDULE_CALL = {
    "output": "pipeline-schedule.children",
    "outputs": {"id": "pipeline-schedule", "property": "children"},
    "inputs": [{"id": "shell-url", "property": "search", "value": "?step=1"}],
    "changedPropIds": ["shell-url.search"],
}
SECRETS = (b"root:", b"Traceback", b"from __future__", b"format_version", b"rankscope.content")
"""What /etc/passwd, a traceback, our sources and the run's files hold."""
BESIDE = "/api/timeline/0/{}?t0=0&t1=260000&width=100&q=wait&after=0&ranks=0,1"
OVERLAYS = [BESIDE.format(name) for name in ("path", "bubbles", "plan", "counters")]
OVERLAYS += [BESIDE.format(name) for name in ("selection", "search", "same/0/1")]
ADDRESSES = (
    *(page.PATH for page in PAGES),
    WINDOW,
    *OVERLAYS,
    "/api/timeline/0/lanes",
    "/",
    "/nowhere",
)

up = "../" * 8
TARGETS = ("etc/passwd", "dashboard/run.py", "run.json", "rank-00000.arrows")
CLIMBS = (
    *("/" + up, "//", "/./" + up, "/" + up.replace("/", "\\"), "/" + up.replace("../", "....//")),
    *("/" + quote(up, safe=""), "/" + up.replace(".", "%2e"), "/" + up.replace("/", "%5c")),
    *("/" + up.replace(".", "%252e"), "/" + up.replace(".", "%c0%ae"), "/%00/" + up, "/file:///"),
    *("/assets/" + up, "/assets//", "/assets/" + quote(up, safe=""), "/assets/x/" + up),
    *("/assets/" + up.replace("/", "%5c"), "/assets/%00" + up, "/assets/boot/" + up),
    *(f"/_dash-component-suites/{name}/{up}" for name in ("dash", "plotly", "dashboard", "..")),
    *("/_dash-component-suites/" + quote(up, safe=""), "/_dash-component-suites/dash//"),
    *("/api/timeline/" + up, "/api/timeline/0/" + up, "/api/" + up.replace("/", "%5c")),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("hostile") / "run", steps=2)


@pytest.fixture(scope="module")
def client(run: Path) -> FlaskClient:
    app = build_app([open_run(run)])
    app.server.config["PROPAGATE_EXCEPTIONS"] = False
    return app.server.test_client()


def check(reply: TestResponse) -> None:
    """Any reply: no fault of the server, its headers, nothing of a file."""
    assert reply.status_code < 500, reply.text[:500]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert not any(secret in reply.data for secret in SECRETS)


@pytest.mark.parametrize("climb", CLIMBS)
def test_no_address_leads_to_a_file(client: FlaskClient, climb: str) -> None:
    for target in TARGETS:
        reply = client.get(climb + target)
        check(reply)
        assert 400 <= reply.status_code < 500
        assert len(reply.data) < 1500


def test_only_reading_is_allowed(client: FlaskClient) -> None:
    rules = {str(rule) for rule in client.application.url_map.iter_rules()}
    filled = {rule.replace("<int:", "0<").split("<")[0] for rule in rules}
    for method in ("PUT", "DELETE", "PATCH", "POST", "TRACE", "PROPFIND", "MKCOL", "MOVE", "X"):
        for address in {*filled, *ADDRESSES, "/assets/app.css", "/api/theme.css"}:
            reply = client.open(address, method=method, data=b"{}")
            check(reply)
            assert 400 <= reply.status_code < 500 or address == "/", (method, address)
            assert reply.status_code != 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil"),
        *("evil.example:127", "127.0.0.1:80:90", "[::1].evil", "::1", "0.0.0.0", "127.1"),
        *("127.0.0.1#", "127.0.0.1/", "127.0.0.1:x", "127.0.0.2", "localhost%00"),
        *("", " ", "é", "a" * 5000),
    ],
)  # fmt: skip
def test_other_names_of_the_host_are_refused(client: FlaskClient, host: str) -> None:
    reply = client.get("/timeline", headers={"Host": host.encode().decode("latin-1")})
    check(reply)
    assert reply.status_code in (400, 403)


_VALUES = st.one_of(
    st.text(max_size=60),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["%00", "%ff%fe", "%", "%u0041", "a&a", "[]", "{}", "0-1", "1.0", "9" * 400]),
    st.text(string.printable, max_size=60).map(quote),
)
_KEYS = st.one_of(
    st.sampled_from(
        [
            *("run", "vs", "steps", "t0", "t1", "sel", "theme", "width", "row0", "row1", "token"),
            *("step", "group", "op", "dim", "hide", "pipeline", "a[b]", "a[b][c]", "__proto__"),
        ]
    ),
    st.text(max_size=12).map(quote),
)


@settings(max_examples=150, derandomize=True)
@given(
    address=st.sampled_from(ADDRESSES),
    pairs=st.lists(st.tuples(_KEYS, _VALUES), max_size=6),
    joint=st.sampled_from(["&", "&", ";", "&&", "?"]),
)
def test_any_query_is_answered_or_refused(
    client: FlaskClient, address: str, pairs: list[tuple[str, str]], joint: str
) -> None:
    query = joint.join(f"{key}={value}" for key, value in pairs).encode("utf-8", "surrogatepass")
    path, _, usual = address.partition("?")
    text = (usual.encode() + b"&" + query).decode("latin-1")
    check(client.get(path, query_string=text))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@st.composite
def calls(draw: st.DrawFn) -> Any:
    """A call of a callback with one value somewhere in it replaced, left out or doubled."""
    call = json.loads(json.dumps(draw(st.sampled_from([CALL, SCHEDULE_CALL]))))
    inside: Any = call
    while True:
        keys = sorted(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = draw(st.sampled_from(keys))
        if isinstance(inside[key], (dict, list)) and inside[key] and draw(st.booleans()):
            inside = inside[key]
            continue
        way = draw(st.sampled_from(["replace", "replace", "remove", "double"]))
        if way == "replace":
            search = st.text(max_size=40).map(lambda text: f"?steps={text}")
            inside[key] = draw(_JSON | search)
        elif way == "remove":
            del inside[key]
        else:
            inside[key] = [inside[key], inside[key]]
        return call


@settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(call=calls())
def test_any_call_of_a_callback_is_answered_or_refused(client: FlaskClient, call: Any) -> None:
    reply = client.post("/_dash-update-component", json=call)
    check(reply)
    assert "This page failed" not in reply.text


def test_the_calls_that_were_changed_are_good_ones(client: FlaskClient) -> None:
    for call in (CALL, SCHEDULE_CALL):
        reply = client.post("/_dash-update-component", json=call)
        assert reply.status_code == 200
        assert "Plotly" in reply.text or "Graph" in reply.text


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"null", b"[" * 500_000, b'{"a":' * 100_000, b"1" * 900_000, b"NaN"],
    ids=lambda body: f"{body[:5]!r} × {len(body)}",
)
def test_a_body_that_is_no_call_is_refused(client: FlaskClient, body: bytes) -> None:
    reply = client.post("/_dash-update-component", data=body, content_type="application/json")
    check(reply)
    assert reply.status_code == 400


@pytest.mark.parametrize("key", ["cancelJob", "job", "oldJob", "cacheKey", "endId"])
def test_a_call_cannot_name_a_background_job(client: FlaskClient, key: str) -> None:
    """There are none here; Dash's own script sends `endId` only."""
    reply = client.post(f"/_dash-update-component?{key}=1&{key}=2", json=CALL)
    check(reply)
    assert reply.status_code == 200


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def sent(port: int, request: bytes) -> Iterator[bytes]:
    """The first bytes of the reply to these bytes, whatever they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with contextlib.suppress(OSError):  # the server may close before it read it all
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        reply = b""
        with contextlib.suppress(ConnectionError):
            reply = connection.recv(1 << 16)
        yield reply


def get(port: int, address: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", address, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_real_server_survives_all_of_it_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pipeline(tmp_path / "run", steps=2)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    before = snapshot(tmp_path)
    odd = [
        b"GET /" + b"../" * 20 + b"etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /timeline?" + b"a" * 10_000_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /timeline?\x00\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /timeline HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(5000)) + b"\r\n",
        b"GET /timeline HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: " + b"c" * 5_000_000 + b"\r\n\r\n",
        b"POST /_dash-update-component HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n" + b"[" * 1_000_000,
        b"POST /_dash-update-component HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT /run.json HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}",
        b"DELETE /timeline HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01 not HTTP at all\r\n\r\n",
        b"GET /timeline HTTP/1.1\r\nHost: xn--\r\n\r\n",
        b"GET http://evil.example/timeline HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ]
    with serving(str(path), "--port", "0") as (process, address):
        port = urlsplit(address).port
        assert port is not None
        for request in odd:
            with sent(port, request) as reply:
                assert not any(secret in reply for secret in SECRETS)
                assert b" 200 " not in reply[:15], request[:60]
                assert b" 500 " not in reply[:15], request[:60]
        for page in ADDRESSES:
            assert get(port, page) in (200, 302, 404)
        assert process.poll() is None
    assert snapshot(tmp_path) == before


def listening(port: int) -> set[str]:
    """The local addresses that some process listens on at this port, in the kernel's notation."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if int(number, 16) == port and state == "0A":
                found.add(address)
    return found


def test_the_process_listens_on_loopback_only(run: Path) -> None:
    with serving(str(run), "--port", "0") as (_, address):
        port = urlsplit(address).port
        assert port is not None
        assert listening(port) == {"0100007F"}


def test_on_all_addresses_every_request_needs_the_token(run: Path) -> None:
    with serving(str(run), "--port", "0", "--host", "0.0.0.0") as (_, address):
        parts = urlsplit(address)
        assert parts.port is not None
        assert listening(parts.port) == {"00000000"}
        assert parts.query.startswith("token=")
        token = parts.query.removeprefix("token=")
        assert len(token) >= 22
        for page in ADDRESSES:
            assert get(parts.port, page) == 401
            assert get(parts.port, page, Cookie="rankscope_token=" + "x" * len(token)) == 401
        assert get(parts.port, f"/timeline?token={token[:-1]}") == 401
        assert get(parts.port, f"/timeline?token={token}&token=x") == 302
        assert get(parts.port, "/timeline", Cookie=f"rankscope_token={token}") == 200
