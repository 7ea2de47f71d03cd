"""Packets of Perfetto's protobuf format, written as they come.

Uses the message classes of the official `perfetto` package. All packets are of one sequence, in
which a word is sent once and then stands as a number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, Final

from tracer.errors import UsageError

if TYPE_CHECKING:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent

_SEQUENCE: Final = 1
_TRACKS_PER_RANK: Final = 1 << 20
"""Numbers that a rank has for its tracks; a lane that is always full has some tens of rows."""
_COUNTERS: Final = 1 << 19
"""Of these, the first one for a counter."""
_THREADS_PER_RANK: Final = 1_000
NAMES: Final = "event_names"
CATEGORIES: Final = "event_categories"
NOTES: Final = "debug_annotation_names"
VALUES: Final = "debug_annotation_string_values"
"""Tables of words."""
RUN: Final = 1
"""The track of what holds for the whole run."""
HELD: Final = 1 << 14
"""Packets that are held before they are written: 1 MB."""


class Packets:
    """Writes packets to `file`; `flush` at the end. `origin_ns` is added to all times.

    Raises:
        UsageError: the package `perfetto` is not installed.
    """

    def __init__(self, file: IO[bytes], origin_ns: int) -> None:
        try:
            from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb
        except ImportError as error:
            raise UsageError(
                "this format needs the package perfetto: pip install 'rankscope[perfetto]'"
            ) from error
        self._pb: Any = pb
        self.SLICE_BEGIN = pb.TrackEvent.TYPE_SLICE_BEGIN
        self.SLICE_END = pb.TrackEvent.TYPE_SLICE_END
        self.INSTANT = pb.TrackEvent.TYPE_INSTANT
        self.COUNTER = pb.TrackEvent.TYPE_COUNTER
        self._file = file
        self._origin_ns = origin_ns
        self._held: Any = pb.Trace()
        self._words: dict[tuple[str, str], int] = {}

    def begin(self) -> None:
        """A fresh sequence, and word that processes and threads come in the order given."""
        packet = self._packet()
        packet.sequence_flags = self._pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        root = packet.track_descriptor
        root.uuid = 0
        root.process_ordering = self._pb.TrackDescriptor.PROCESS_ORDERING_EXPLICIT
        root.thread_ordering = self._pb.TrackDescriptor.THREAD_ORDERING_EXPLICIT
        run = self._packet().track_descriptor
        run.uuid, run.name = RUN, "run"

    def process_track(self, rank: int) -> int:
        """The number of a rank's track."""
        return (rank + 1) * _TRACKS_PER_RANK

    def process(self, rank: int, order: int, name: str, labels: Iterable[str]) -> None:
        """A rank's track; its process is numbered from 1, since 0 is the idle process."""
        track = self._packet().track_descriptor
        track.uuid, track.sibling_order_rank = self.process_track(rank), order
        track.process.pid = rank + 1
        track.process.process_name = name
        track.process.process_labels.extend(labels)

    def thread(self, rank: int, number: int, name: str) -> int:
        """The track of a lane."""
        uuid = self.process_track(rank) + 1 + number
        track = self._packet().track_descriptor
        track.uuid, track.sibling_order_rank = uuid, number
        track.thread.pid = rank + 1
        track.thread.tid = (rank + 1) * _THREADS_PER_RANK + number
        track.thread.thread_name = name
        return uuid

    def row(self, rank: int, number: int, name: str, parent: int) -> int:
        """A track below another one: the steps of a process, a further row of a thread."""
        uuid = self.process_track(rank) + 1 + number
        track = self._packet().track_descriptor
        track.uuid, track.parent_uuid, track.name = uuid, parent, name
        track.sibling_order_rank = number
        return uuid

    def counter(self, rank: int, number: int, name: str) -> int:
        """The track of a counter; its unit is what follows the slash in its name."""
        uuid = self.process_track(rank) + _COUNTERS + number
        track = self._packet().track_descriptor
        title, _, unit = name.partition("/")
        track.uuid, track.parent_uuid = uuid, self.process_track(rank)
        track.name = title
        if unit == "bytes":
            track.counter.unit = self._pb.CounterDescriptor.UNIT_SIZE_BYTES
        elif unit:
            track.counter.unit_name = unit
        else:
            track.counter.unit = self._pb.CounterDescriptor.UNIT_COUNT
        return uuid

    def event(self, time: int, track: int, type_: int) -> TrackEvent:
        """An event to be filled in."""
        packet = self._packet()
        packet.timestamp = time + self._origin_ns
        packet.sequence_flags = self._pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        event: TrackEvent = packet.track_event
        event.type, event.track_uuid = type_, track
        return event

    def word(self, table: str, word: str) -> int:
        """The number of a word, which is sent before the next event."""
        known = self._words.get((table, word))
        if known is not None:
            return known
        number = self._words[table, word] = len(self._words) + 1
        packet = self._packet()
        packet.sequence_flags = self._pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        entry = getattr(packet.interned_data, table).add()
        entry.iid = number
        if table == VALUES:
            entry.str = word.encode()
        else:
            entry.name = word
        return number

    def _packet(self) -> Any:
        if len(self._held.packet) >= HELD:
            self.flush()
        packet = self._held.packet.add()
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet

    def flush(self) -> None:
        """Write what is held: messages of a repeated field follow each other in a file."""
        self._file.write(self._held.SerializeToString())
        self._held = self._pb.Trace()  # cleared ones keep their memory
