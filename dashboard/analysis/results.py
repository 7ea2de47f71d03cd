"""What every result of an analysis has in common: tables that turn into plain JSON values."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pyarrow as pa


class Result:
    """Base of the results, which are frozen dataclasses of tables and small facts."""

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers: tables as lists of rows, NaN and infinities as null."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: _plain(getattr(self, field.name)) for field in fields}


def _plain(value: Any) -> Any:
    if isinstance(value, pa.Table):
        return _plain(value.to_pylist())
    if isinstance(value, Result):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
