"""A made-up run of any size in our format, marked simulated: what a timeline of many events shows.

Ranks of a mesh (pipeline stages × tensor-parallel ranks), microbatch after microbatch: a forward
and a backward with collectives inside, a wait, and kernels on the device's stream. Durations vary
from microbatch to microbatch and from event to event, so that nothing compresses by accident.

For timelines and reading only: mostly kernels, as fast to write as can be, and ranks that wait for
nobody. benchmarks.generate makes runs in which ranks meet, for the analyses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tracer.columns import Batches
from tracer.schema import (
    EVENT_SCHEMA,
    FORMAT_NAME,
    FORMAT_VERSION,
    RUN_FILE,
    events_file,
    facts_file,
)
from tracer.streams import StreamWriter

STAGES: Final = 8
MICROBATCHES: Final = 16
"""Per step."""
_RUN_ID: Final = "synthetic"
_BATCH: Final = 1 << 14
"""Rows per record batch, as large as the recorder's usual ones."""
_FORWARD_US: Final = 1_000
_BACKWARD_US: Final = 2_000
_LENGTH_US: Final = 3_400
"""A microbatch: forward, backward, and 200 µs around each."""
_KERNELS: Final = 40

_KINDS: Final = ("step", "forward", "backward", "collective", "wait", "kernel")
_NAMES: Final = ("step", "F", "B", "all_reduce", "recv", "gemm", "softmax", "layer_norm")
_LANES: Final = ("host:main", "device:7")


def write_synthetic_run(path: Path, *, events: int, ranks: int, seed: int = 20_261_124) -> Path:
    """Write a run of about that many events over all ranks (whole microbatches); returns `path`."""
    path.mkdir(parents=True)
    tensor = max(ranks // STAGES, 1)
    run = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "run_id": _RUN_ID,
        "created": "2026-01-01T00:00:00+00:00",
        "world_size": ranks,
        "mesh": {
            "names": ["pp", "tp"],
            "shape": [-(-ranks // tensor), tensor],
            "coordinates": {str(rank): [rank // tensor, rank % tensor] for rank in range(ranks)},
        },
        "schedule": None,
        "config": {},
        "versions": {},
        "link_peaks": {},
        "simulated": True,
    }
    (path / RUN_FILE).write_text(json.dumps(run))
    microbatches = max(events // ranks // len(_template()), 1)
    for rank in range(ranks):
        random = np.random.default_rng((seed, rank))
        _write_events(path, rank, _events(microbatches, random))
        facts = {
            "rank": rank,
            "run_id": _RUN_ID,
            "world_size": ranks,
            "host": "made-up",
            "boot_id": "made-up",
            "coordinates": {"pp": rank // tensor, "tp": rank % tensor},
            "stages": [rank // tensor],
            "groups": {},
            "ended": "closed",
        }
        (path / facts_file(rank)).write_text(json.dumps(facts))
    return path


def _template() -> list[tuple[int, int, int, int, int]]:
    """One microbatch: start and duration in µs, kind, name, lane."""
    found = [
        (100, 80, 4, 4, 0),
        (200, _FORWARD_US, 1, 1, 0),
        (1_300, 80, 4, 4, 0),
        (1_400, _BACKWARD_US, 2, 2, 0),
    ]
    found += [(300 + 220 * i, 100, 3, 3, 0) for i in range(4)]
    found += [(1_500 + 230 * i, 120, 3, 3, 0) for i in range(8)]
    found += [(200 + 80 * i, 60, 5, 5 + i % 3, 1) for i in range(_KERNELS)]
    return sorted(found)


def _events(microbatches: int, random: np.random.Generator) -> dict[str, NDArray[Any]]:
    """The columns of one rank that are not null everywhere; times in ns, in order of start."""
    template = np.array(_template())
    stretch = random.lognormal(0, 0.1, microbatches) * 1_000
    begin = np.concatenate([[0.0], np.cumsum(stretch * _LENGTH_US)])
    start = begin[:-1, None] + stretch[:, None] * template[:, 0]
    length = stretch[:, None] * template[:, 1] * random.uniform(0.7, 1, (microbatches, 1))
    length = length * random.uniform(0.8, 1, (microbatches, len(template)))
    numbers = np.arange(microbatches)[:, None] + np.zeros_like(template[:, 0])
    columns = {
        "start": start.astype(np.int64).ravel(),
        "duration": length.astype(np.int64).ravel(),
        **{
            name: np.tile(template[:, at], microbatches)
            for name, at in (("kind", 2), ("name", 3), ("lane", 4))
        },
        "step": (numbers // MICROBATCHES).ravel(),
        "microbatch": (numbers % MICROBATCHES).ravel(),
    }
    firsts = begin[:-1:MICROBATCHES].astype(np.int64)
    lasts = np.append(firsts[1:], np.int64(begin[-1]))
    steps = {name: np.zeros(len(firsts), np.int64) for name in columns}
    steps |= {"start": firsts, "duration": lasts - firsts, "step": np.arange(len(firsts))}
    both = {name: np.concatenate([columns[name], steps[name]]) for name in columns}
    order = np.argsort(both["start"], kind="stable")
    return {name: values[order] for name, values in both.items()}


def _write_events(path: Path, rank: int, columns: dict[str, NDArray[Any]]) -> None:
    words = {"kind": _KINDS, "name": _NAMES, "lane": _LANES}
    writer = StreamWriter(
        path / events_file(rank), EVENT_SCHEMA, "events", run_id=_RUN_ID, rank=rank
    )
    batches = Batches(EVENT_SCHEMA)
    total = len(columns["start"])
    for low in range(0, total, _BATCH):
        rows = {name: values[low : low + _BATCH] for name, values in columns.items()}
        for name, of_column in words.items():
            indices = pa.array(rows[name], pa.int32())
            rows[name] = pa.DictionaryArray.from_arrays(indices, pa.array(of_column, pa.string()))
        writer.write(batches.batch(rows))
    writer.close()
