"""An S3 endpoint for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.object_store import Endpoint, endpoint


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Endpoint]:
    with endpoint() as running:
        yield running


@pytest.fixture
def s3(s3_server: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Endpoint:
    """The endpoint as a client finds it: by its environment. Nothing is in the user's cache."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    s3_server.forget()
    return s3_server
