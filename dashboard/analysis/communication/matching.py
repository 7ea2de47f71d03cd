"""The records of one operation on several ranks, brought together by group and number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
MessageKey: TypeAlias = tuple[str, int, int, int]
"""group, source rank, destination rank, number of the message."""


def matched(
    rows: Iterable[Row],
) -> tuple[dict[MessageKey, dict[str, Row]], dict[tuple[str, int], dict[int, Row]]]:
    """Rows of `operations` → messages and collectives.

    Rows without group or number, and messages without peer, are left out.

    Messages: key → {"send": row, "recv": row}, one of them missing where it was not recorded.
    Collectives: (group, seq) → rank → row.
    """
    messages: dict[MessageKey, dict[str, Row]] = defaultdict(dict)
    collectives: dict[tuple[str, int], dict[int, Row]] = defaultdict(dict)
    for row in rows:
        if row["group"] is None or row["seq"] is None:
            continue
        if row["op"] in ("send", "recv") and row["peer"] is None:
            continue
        if row["op"] == "send":
            messages[row["group"], row["rank"], row["peer"], row["seq"]]["send"] = row
        elif row["op"] == "recv":
            messages[row["group"], row["peer"], row["rank"], row["seq"]]["recv"] = row
        else:
            collectives[row["group"], row["seq"]][row["rank"]] = row
    return messages, collectives
