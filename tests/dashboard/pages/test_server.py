"""The server from outside: who is let in, what is refused, what every reply carries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from dashboard import open_run
from dashboard.pages.app import PAGES, build_app
from tests.support.toy import Event, write_run

TOKEN = "s3cret-token"
WINDOW = "/api/timeline/0/window?t0=0&t1=100&width=10&row0=0&row1=9"


def client_of(path: Path, token: str | None = None) -> FlaskClient:
    events = [
        Event(start=0, duration=100, kind="step", name="step"),
        Event(start=0, duration=50, kind="forward", name="<script>alert(1)</script>"),
    ]
    run = open_run(write_run(path / "run", {0: events}))
    return build_app([run], token=token).server.test_client()


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return client_of(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.TITLE)
def test_every_page_answers(client: FlaskClient, page: object) -> None:
    assert client.get(page.PATH).status_code == 200  # type: ignore[attr-defined]


def test_the_bare_address_leads_to_the_first_page(client: FlaskClient) -> None:
    reply = client.get("/?run=0&theme=dark")
    assert reply.status_code == 302
    assert reply.headers["Location"] == PAGES[0].PATH + "?run=0&theme=dark"
    split = client.get("/?a=%0d%0aSet-Cookie:x=1")
    assert "Set-Cookie" not in split.headers


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/timeline?run=1", 400),
        ("/timeline?steps=x", 400),
        ("/timeline?" + "a" * 5000, 400),
        ("/timeline?t0=%ff%fe&t1=2", 400),
        ("/nowhere", 404),
        ("/../../etc/passwd", 404),
        ("/assets/../app.py", 404),
        ("/assets/%2e%2e/pages/app.py", 404),
        ("/api/timeline/1/lanes", 400),
        ("/api/timeline/-1/lanes", 404),
        ("/api/timeline/x/lanes", 404),
        ("/api/timeline/0/window", 400),
        ("/api/timeline/0/path", 400),
        ("/api/timeline/0/path?t0=5&t1=5&width=10", 400),
        ("/api/timeline/0/path?t0=0&t1=5&width=0", 400),
        ("/api/timeline/7/path?t0=0&t1=5&width=10", 400),
        ("/api/timeline/0/path?t0=0&t1=5&width=10", 200),
        (WINDOW.replace("width=10", "width=0"), 400),
        (WINDOW.replace("width=10", "width=999999999"), 400),
        (WINDOW.replace("t1=100", "t1=0"), 400),
        (WINDOW.replace("t1=100", "t1=1e99"), 400),
        (WINDOW.replace("row1=9", "row1=99999999"), 400),
        ("/api/timeline/0/event/0/99", 400),
        ("/api/timeline/0/event/9/0", 400),
    ],
)
def test_odd_requests_get_a_plain_refusal(client: FlaskClient, address: str, status: int) -> None:
    reply = client.get(address)
    assert reply.status_code == status
    assert b"Traceback" not in reply.data
    assert len(reply.data) < 1500


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"output": "nothing.children", "inputs": []}',
        b"x" * 2_000_000,
    ],
    ids=lambda body: body[:12].decode(),
)
def test_odd_callbacks_get_no_traceback(client: FlaskClient, body: bytes) -> None:
    client.application.config["PROPAGATE_EXCEPTIONS"] = False
    reply = client.post("/_dash-update-component", data=body, content_type="application/json")
    assert reply.status_code >= 400
    assert b"Traceback" not in reply.data
    assert len(reply.data) < 1500


@pytest.mark.parametrize("search", ["?run=7", "?steps=x", "?t0=1", 5, None, {"a": 1}])
def test_a_callback_with_an_odd_view_lays_out_a_notice(client: FlaskClient, search: object) -> None:
    view = {"pathname": "/timeline", "search": search}
    reply = client.post(
        "/_dash-update-component",
        json={
            "output": "shell-page.children",
            "outputs": {"id": "shell-page", "property": "children"},
            "inputs": [{"id": "shell-view", "property": "data", "value": view}],
            "changedPropIds": ["shell-view.data"],
        },
    )
    assert reply.status_code == 200
    (shown,) = reply.json["response"]["shell-page"]["children"]
    assert shown["props"]["className"] == "notice"


def test_a_refusal_escapes_what_it_quotes(client: FlaskClient) -> None:
    reply = client.get("/timeline?steps=<script>")
    assert b"<script>" not in reply.data
    assert b"&lt;script&gt;" in reply.data


@pytest.mark.parametrize("address", ["/timeline", WINDOW, "/nowhere", "/assets/app.css"])
def test_every_reply_carries_the_security_headers(client: FlaskClient, address: str) -> None:
    headers = client.get(address).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    script_sources = re.search(r"script-src ([^;]*);", policy)
    assert script_sources is not None
    assert "unsafe" not in script_sources[1]
    assert "http" not in policy


def test_the_page_asks_for_nothing_from_elsewhere(client: FlaskClient) -> None:
    addresses = re.findall(r'(?:src|href)="([^"]*)"', client.get("/timeline").text)
    assert addresses
    assert all(address.startswith("/") and address[1] != "/" for address in addresses)


def test_only_loopback_names_are_answered(client: FlaskClient) -> None:
    assert client.get("/timeline", headers={"Host": "localhost:8050"}).status_code == 200
    assert client.get("/timeline", headers={"Host": "127.0.0.1:8050"}).status_code == 200
    assert client.get("/timeline", headers={"Host": "evil.example"}).status_code == 403
    assert client.get(WINDOW, headers={"Host": "evil.example:8050"}).status_code == 403


def test_with_a_token_nothing_is_served_without_it(tmp_path: Path) -> None:
    client = client_of(tmp_path, TOKEN)
    for address in ("/timeline", WINDOW, "/assets/app.css", "/_dash-layout", "/api/theme.css"):
        assert client.get(address).status_code == 401
    assert client.post("/_dash-update-component", json={}).status_code == 401
    assert client.get("/timeline?token=wrong").status_code == 401
    assert client.get("/timeline?token=é").status_code == 401


def test_the_token_moves_from_the_address_to_a_cookie(tmp_path: Path) -> None:
    client = client_of(tmp_path, TOKEN)
    reply = client.get(f"/timeline?run=0&token={TOKEN}")
    assert reply.status_code == 302
    assert reply.headers["Location"] == "/timeline?run=0"
    assert "HttpOnly" in reply.headers["Set-Cookie"]
    assert "SameSite=Strict" in reply.headers["Set-Cookie"]
    assert client.get("/timeline").status_code == 200
    assert client.get(WINDOW).status_code == 200
    elsewhere = client.get(f"//evil.example?token={TOKEN}")
    assert not elsewhere.headers.get("Location", "/").startswith("//")


def test_names_from_a_trace_travel_as_json_text(client: FlaskClient) -> None:
    reply = client.get("/api/timeline/0/event/0/1")
    assert reply.mimetype == "application/json"
    assert {"name": "name", "value": "<script>alert(1)</script>"}.items() <= next(
        field for field in reply.json["fields"] if field["name"] == "name"
    ).items()
