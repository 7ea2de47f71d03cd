"""Shares of communication: what is matched at a time is as much as is meant to be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from dashboard.analysis.communication import shares
from dashboard.analysis.communication.partial_communication import PartialCommunication


@pytest.mark.parametrize("of", [1, 2, 3, 4, 6])
def test_turns_of_a_share_are_alike_long(of: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 operations 500 at a time, also where a share has every second, third, … number."""
    monkeypatch.setattr(shares, "OPERATIONS", 500)
    numbers = pa.table({"seq": np.arange(0, 2_000 * of, of)})
    none = numbers.slice(0, 0)
    found = PartialCommunication(collectives=numbers, sends=none, receives=none, lost=Counter())
    turns = [turn.collectives["seq"].to_pylist() for turn in shares.in_turns(found)]
    assert sorted(number for turn in turns for number in turn) == numbers["seq"].to_pylist()
    assert len(turns) == 4
    assert all(400 < len(turn) < 600 for turn in turns)
