"""The writer thread: turns what the recorder holds into files, once per flush interval.

It alone touches the files of this rank while training runs. Any error of it (a full disk, a
deleted directory) ends the tracing through `Recorder.fault`; the training never notices.
"""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.arrays import number_array
from tracer.batches import record_batch
from tracer.black_box import BlackBox, append_stacks, say_that_it_hangs
from tracer.clocks.file import ClockFile
from tracer.recorder import Names, Recorder
from tracer.rings import RECORD_DTYPE
from tracer.run_files import RankFacts, write_rank_facts
from tracer.schema import COUNTER_SCHEMA, EVENT_SCHEMA, counters_file, events_file
from tracer.signals import Signals, end_by
from tracer.streams import StreamWriter

_BATCH_ROWS = 1 << 14
"""Columns of more rows would take the interpreter lock for too long at a time."""

_MOST_COUNTER_NAMES = 1 << 12
"""Words of one dictionary, which a flush with a new one copies: many more than anyone counts."""

JOIN_TIMEOUT_S = 30.0
"""How long the end of the training waits for the last flush before it goes on without."""


class Writer:
    """Owns the files of one rank from `start` to `stop`.

    `facts` is asked before every flush and written when it changed; `on_facts` is called then
    (rank 0 writes `run.json` there). With a `box` events and counters reach the files only when
    it says so; `signals` are reasons for that.
    """

    def __init__(
        self,
        directory: Path,
        recorder: Recorder,
        *,
        facts: Callable[[], RankFacts],
        on_facts: Callable[[], None],
        flush_interval_s: float,
        box: BlackBox | None = None,
        signals: Signals | None = None,
    ) -> None:
        self._box = box
        self._is_last = False
        self._signals = signals
        self._directory = directory
        self._recorder = recorder
        self._facts = facts
        self._on_facts = on_facts
        self._flush_interval_s = flush_interval_s
        self._known: RankFacts | None = None
        self._written = 0
        self._counter_values = 0
        self._counter_names = Names()
        self._stopping = threading.Event()
        self._has_told_the_end = False
        first = facts()
        self._events = StreamWriter(
            directory / events_file(first.rank),
            EVENT_SCHEMA,
            "events",
            run_id=first.run_id,
            rank=first.rank,
        )
        self._counters = StreamWriter(
            directory / counters_file(first.rank),
            COUNTER_SCHEMA,
            "counters",
            run_id=first.run_id,
            rank=first.rank,
        )
        self._clock = ClockFile(directory, run_id=first.run_id, rank=first.rank)
        self._thread = threading.Thread(target=self._run, name="rankscope-writer", daemon=True)

    def start(self) -> None:
        """Write the facts and begin to flush.

        An empty batch goes first: it carries the schema, so that the file is readable from the
        first moment on, whenever the process is killed.
        """
        nothing = np.empty(0, RECORD_DTYPE)
        self._events.write(record_batch(nothing, self._recorder))
        self._write_facts()
        self._thread.start()

    def stop(self) -> None:
        """Flush what is left and close the files; gives up after `JOIN_TIMEOUT_S`."""
        self._stopping.set()
        if self._thread.ident is None:  # an error came before the first flush
            self._close()
            return
        self._thread.join(JOIN_TIMEOUT_S)
        if not self._has_told_the_end and not self._thread.is_alive():
            self._try(self._write_last_facts)  # a disk that was full may have room by now

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._flush_interval_s):
                self._flush()
            self._flush()
            for finish in self._recorder.on_close:
                finish()
            self._is_last = True
            self._flush()
        except Exception as error:
            self._recorder.fault(error)
        try:
            self._close()
            if self._signals is not None:
                self._signals.abandon()
        except Exception as error:
            self._recorder.fault(error)

    def _flush(self) -> None:
        recorder = self._recorder
        for work in recorder.on_flush:
            work()
        if self._box is None:
            self._write(self._drained(), [])
            self._counters.write(self._counter_batch())
        else:
            self._hold(self._box)
        self._clock.write(recorder.clock_samples)
        self._write_facts()

    def _drained(self) -> Iterator[npt.NDArray[np.void]]:
        recorder = self._recorder
        for records in _in_batches(recorder.drain()):
            for show in recorder.on_records:
                show(records)
            yield records

    def _write(
        self, drained: Iterable[npt.NDArray[np.void]], counters: Iterable[pa.RecordBatch]
    ) -> None:
        for records in drained:
            self._events.write(record_batch(records, self._recorder))
            self._written += len(records)
        for batch in counters:
            self._counters.write(batch)

    def _hold(self, box: BlackBox) -> None:
        """Keep what was drained, and write what is kept if there is a reason.

        What is asked for from here on waits for the next time: the steps before it may not be in
        what is drained now.
        """
        heard = self._signals.heard() if self._signals is not None else []
        for number in heard:
            box.ask(f"signal {signal.Signals(number).name}")
        asked = box.asked
        for records in self._drained():
            box.keep(records)
        box.keep_counters(self._counter_batch())
        is_complete = self._is_last or not self._stopping.is_set()
        reason = box.incident(asked) if is_complete else None
        if reason is not None:
            self._dump(box, reason)
        if self._signals is not None and any(map(self._signals.is_final, heard)):
            self._write_facts()
            end_by(signal.SIGTERM)

    def _dump(self, box: BlackBox, reason: str) -> None:
        rank = self._facts().rank
        if box.is_hung:
            say_that_it_hangs(box, self._directory, rank)
            append_stacks(self._directory, rank, reason)
        records, counters = box.release(reason)
        self._write(_in_batches(records), counters)

    def _counter_batch(self) -> pa.RecordBatch:
        recorder = self._recorder
        sampled = {
            "recorder.events": float(self._written),
            "recorder.dropped": float(recorder.dropped),
        }
        for sample in recorder.samplers:
            sampled.update(sample())
        now = recorder.clock()
        rows = [recorder.counter_values.popleft() for _ in range(len(recorder.counter_values))]
        self._counter_values += len(rows)
        lost = recorder.counter_values_offered - self._counter_values
        if lost > 0:
            sampled["recorder.dropped_counter_values"] = float(lost)
        rows += [(now, name, value) for name, value in sampled.items()]
        times, names, values = zip(*rows, strict=True)
        if len(self._counter_names.words) > _MOST_COUNTER_NAMES:
            self._counter_names = Names()  # names that count something up: the words begin anew
        words = np.array([self._counter_names.intern(name) for name in names], np.int32)
        return pa.record_batch(
            [
                number_array(np.array(times, np.int64)),
                pa.DictionaryArray.from_arrays(
                    number_array(words), self._counter_names.array(), safe=False
                ),
                number_array(np.array(values, np.float64)),
            ],
            schema=COUNTER_SCHEMA,
        )

    def _write_facts(self) -> None:
        facts = self._facts()
        if facts != self._known:
            write_rank_facts(self._directory, facts)
            self._known = facts
            self._on_facts()

    def _close(self) -> None:
        files = self._events, self._counters, self._clock
        for close in (*(file.close for file in files), self._write_last_facts):
            self._try(close)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._recorder.fault(error)

    def _write_last_facts(self) -> None:
        failure = self._recorder.failure
        ended = f"failed: {failure}" if failure else "closed"
        write_rank_facts(self._directory, dataclasses.replace(self._facts(), ended=ended))
        self._has_told_the_end = True
        self._on_facts()


def _in_batches(drained: list[npt.NDArray[np.void]]) -> Iterator[npt.NDArray[np.void]]:
    """Fewer and larger batches: each has a fixed cost on disk, and larger ones compress better."""
    together: list[npt.NDArray[np.void]] = []
    rows = 0
    for records in drained:
        if together and rows + len(records) > _BATCH_ROWS:
            yield _joined(together)
            together, rows = [], 0
        together.append(records)
        rows += len(records)
    if together:
        yield _joined(together)


def _joined(parts: list[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """One after the other, as bytes: numpy would copy records field by field, 50 ns each."""
    if len(parts) == 1:
        return parts[0]
    joined: npt.NDArray[np.void] = np.concatenate([part.view(np.uint8) for part in parts]).view(
        RECORD_DTYPE
    )
    return joined
