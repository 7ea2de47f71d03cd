"""The counters of a run: memory, power and the like, sampled while it trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from dashboard.runs.clock_map import ClockMap
from dashboard.runs.columns import numbers
from tracer.arrays import number_array
from tracer.errors import TraceError
from tracer.schema import counters_file
from tracer.streams import read_stream

SCHEMA = pa.schema(
    [
        ("rank", pa.int32()),
        ("ts", pa.int64()),
        ("name", pa.string()),
        ("value", pa.float64()),
    ]
)


def read_counters(
    directory: Path, run_id: str, maps: Mapping[int, ClockMap], begin: int
) -> pa.Table:
    """rank, ts (ns on the common clock since `begin`), name, value of all ranks in `maps`.

    A file that is missing, damaged or of another run is left out: counters are an extra.
    """
    parts = [SCHEMA.empty_table()]
    for rank, clock in maps.items():
        try:
            stream = read_stream(directory / counters_file(rank), "counters")
        except (TraceError, OSError):
            continue
        if (stream.run_id, stream.rank) == (run_id, rank):
            table = stream.table
            parts.append(
                pa.table(
                    {
                        "rank": number_array(np.full(table.num_rows, rank, np.int32)),
                        "ts": number_array(clock.to_common(numbers(table["ts"])) - begin),
                        "name": table["name"].cast(pa.string()),
                        "value": table["value"],
                    },
                    schema=SCHEMA,
                )
            )
    return pa.concat_tables(parts)
