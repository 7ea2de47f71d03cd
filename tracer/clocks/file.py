"""`rank-00000.clock.arrows`: the comparisons of this rank's clock with others, if there are any."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pyarrow as pa

from tracer.arrays import number_array, word_array
from tracer.schema import CLOCK_SCHEMA, clock_file
from tracer.streams import StreamWriter


class ClockFile:
    """Made with its first sample: most ranks share a clock with another that speaks for them."""

    def __init__(self, directory: Path, *, run_id: str, rank: int) -> None:
        self._path = directory / clock_file(rank)
        self._run_id = run_id
        self._rank = rank
        self._stream: StreamWriter | None = None

    def write(self, samples: deque[tuple[int, str, int, int]]) -> None:
        """Take the samples (rows of `CLOCK_SCHEMA`) and append them.

        Raises:
            OSError: the disk is full or gone.
        """
        rows = [samples.popleft() for _ in range(len(samples))]
        if not rows:
            return
        if self._stream is None:
            self._stream = StreamWriter(
                self._path, CLOCK_SCHEMA, "clock", run_id=self._run_id, rank=self._rank
            )
        times, sources, offsets, errors = zip(*rows, strict=True)
        self._stream.write(
            pa.record_batch(
                [
                    number_array(np.array(times, np.int64)),
                    word_array(sources).dictionary_encode(),
                    number_array(np.array(offsets, np.int64)),
                    number_array(np.array(errors, np.int64)),
                ],
                schema=CLOCK_SCHEMA,
            )
        )

    def close(self) -> None:
        """End the stream, if there is one."""
        if self._stream is not None:
            self._stream.close()
