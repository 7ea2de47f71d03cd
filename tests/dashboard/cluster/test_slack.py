"""Memory goes back where more than the slack has gathered, and not before."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dashboard.cluster import slack

_MB = 1 << 20


def test_it_goes_back_when_more_than_the_slack_has_gathered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MB: 200 (given back, 150 are left), 240, 246 (as much as is kept), 247 (given back)."""
    told = iter([200, 150, 240, 246, 247, 160])
    released: list[int] = []

    class Pool:
        def release_unused(self) -> None:
            released.append(1)

    monkeypatch.setattr(slack, "_FLOOR", slack._Floor())
    monkeypatch.setattr(slack, "_resident", lambda: next(told) * _MB)
    monkeypatch.setattr(pa, "default_memory_pool", Pool)
    counts = []
    for _ in range(4):
        slack.give_back()
        counts.append(len(released))

    assert counts == [1, 1, 1, 2]


def test_this_process_is_in_memory() -> None:
    assert slack._resident() > 10 * _MB
