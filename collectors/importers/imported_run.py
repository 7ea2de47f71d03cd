"""Write a run directory from what another tool recorded: streaming, and whole or not at all.

A parser opens one with `imported_run`, gives each rank's events as they come, and says what its
source lacks. Files are written beside the target and take its name at the end, so that neither
an error nor Ctrl-C leaves half a run.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from collectors.importers.meshes import mesh_of
from tracer.columns import Batches, Column
from tracer.errors import DamagedTrace, TraceError, UsageError
from tracer.run_files import (
    Mesh,
    RankFacts,
    RunMeta,
    SchedulePlan,
    Source,
    read_run_meta,
    write_rank_facts,
    write_run_meta,
)
from tracer.schema import COUNTER_SCHEMA, EVENT_SCHEMA, MAX_RANK, counters_file, events_file
from tracer.streams import StreamWriter
from tracer.topology import Topology

_ROWS: Final = 1 << 14
"""Rows that are held before they are written: as many as the recorder's usual batches have."""
SMALL: Final = pa.Codec("zstd", compression_level=1)
"""In batches of this length it makes files as small as the recorder's level, in half the time."""
FAST: Final = pa.Codec("lz4")
"""Twice as large, but written in two thirds of the time and read in half of it: for caches."""
_LATEST: Final = 1 << 62
"""ns since 1970: the year 2116."""
_PART: Final = ".part"
_ABANDONED_S: Final = 86_400
"""A part that nobody has written to for a day was left by a process that was killed."""


Watch = Callable[[int, pa.RecordBatch], None]
"""Told of a rank and some of its events, as they are written."""


@contextlib.contextmanager
def imported_run(
    out: Path,
    *,
    format: str,
    overwrite: bool = False,
    named: str = "",
    watch: Watch = lambda rank, events: None,
    codec: pa.Codec = SMALL,
) -> Iterator[ImportedRun]:
    """A run to fill in the block; it is at `out` when the block ends without an error.

    Args:
        out: the run directory to make.
        format: name of the source's format, as in `rankscope import FORMAT`.
        named: what errors call the source.
        overwrite: replace a run at `out` that was imported before (never a recorded one).
        watch: sees all events, in the order of their files.
        codec: `SMALL` or `FAST`.

    Raises:
        UsageError: `out` exists already or cannot be written.
        TraceError: nothing was imported.
    """
    out = Path(out)
    _check_free(out, overwrite)
    part = _make_part(out)
    try:
        run = ImportedRun(part, format, named or f"the {format} files", watch, codec)
        try:
            yield run
            run._finish()
        finally:
            run._close()
        _take_place(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


class ImportedRun:
    """A run that is being imported. Set what the source knows of the whole run; what is never set
    is unknown.

    Attributes:
        world_size: ranks that trained; the highest rank seen and those below it if 0.
        mesh: None: made of the ranks' coordinates, where these are complete.
        versions: of the tools that recorded, such as `{"torch": "2.13.0"}`.
        config: anything else worth keeping, as JSON values.
        created: when the recording began, ISO 8601.
        known: None; or all of this at once, where the source is a run that was exported.
    """

    def __init__(
        self, directory: Path, format: str, named: str, watch: Watch, codec: pa.Codec
    ) -> None:
        self.world_size = 0
        self.mesh: Mesh | None = None
        self.schedule: SchedulePlan | None = None
        self.versions: dict[str, str] = {}
        self.config: dict[str, Any] = {}
        self.created = ""
        self.known: RunMeta | None = None
        self._directory = directory
        self._format = format
        self._named = named
        self.watch = watch
        self.codec = codec
        self._run_id = secrets.token_hex(8)
        self._lacks: dict[str, None] = {}
        self._ranks: dict[int, ImportedRank] = {}
        self.epoch_ns: int | None = None
        """What is taken off all times, so that they fit the format: the first one of all."""

    def rank(
        self, rank: int, *, host: str = "", clock: str = "", device: str = "cpu", pid: int = 0
    ) -> ImportedRank:
        """Begin a rank, or go on with one.

        Args:
            rank: global rank.
            host: name of the host, if known.
            clock: equal for ranks whose times are of one clock (such as the host's name or boot
                id); empty: unknown, and the rank is aligned by its collectives.
            device: `cpu`, `cuda:0`, …
            pid: process id, if known.

        Raises:
            DamagedTrace: no such rank is possible.
        """
        if not 0 <= rank <= MAX_RANK:
            raise DamagedTrace(f"rank {rank}: wanted 0 to {MAX_RANK:,}")
        known = self._ranks.get(rank)
        if known is None:
            known = self._ranks[rank] = ImportedRank(self, rank, self._directory, self._run_id)
        known.host, known.clock = host or known.host, clock or known.clock
        known.device = device if device != "cpu" else known.device
        known.pid = pid or known.pid
        return known

    @property
    def ranks(self) -> Mapping[int, ImportedRank]:
        """Those that were begun."""
        return self._ranks

    def lacks(self, sentence: str) -> None:
        """Say what the source does not hold, or what was left out, and what does not work for it:
        one sentence that the report and the dashboard show. Saying it twice is saying it once.
        """
        self._lacks[sentence] = None

    def relative(self, time_ns: int) -> int:
        """A time of the source as the run's files have it; the first one of all becomes 0.

        Raises:
            DamagedTrace: it is no time of this age of the world.
        """
        if abs(time_ns) > _LATEST:
            raise DamagedTrace(f"{time_ns}: no time in ns, wanted 0 to {_LATEST}")
        if self.epoch_ns is None:
            self.epoch_ns = int(time_ns)
        return int(time_ns) - self.epoch_ns

    def _finish(self) -> None:
        from tracer.environment import own_version  # 1.5 MB of modules, when files are read

        world_size = max(self.world_size, max(self._ranks, default=0) + 1)
        facts = {rank: found._finish(world_size) for rank, found in self._ranks.items()}
        if not any(rank.rows for rank in self._ranks.values()):
            raise TraceError(f"nothing to import: no event of any rank in {self._named}")
        for known in facts.values():
            write_rank_facts(self._directory, known)
        meta = RunMeta(
            run_id=self._run_id,
            world_size=world_size,
            created=self.created,
            mesh=self.mesh or mesh_of(facts, world_size),
            schedule=self.schedule,
            config=self.config,
            versions={"rankscope": own_version()} | self.versions,
            source=Source(
                format=self._format, lacks=tuple(self._lacks), epoch_ns=self.epoch_ns or 0
            ),
        )
        if self.known is not None:
            meta = replace(
                self.known, run_id=meta.run_id, world_size=world_size, source=meta.source
            )
        write_run_meta(self._directory, meta)

    def _close(self) -> None:
        for rank in self._ranks.values():
            with contextlib.suppress(OSError):
                rank._close()


class ImportedRank:
    """The files of one rank. Events are written in batches, whatever their order.

    Attributes:
        topology: note here the groups (`topology.group(ranks, description).name` is what the
            column `group` holds), stages and mesh dimensions that the source names.
        rows: events so far.
        known: None; or all facts of the rank at once, where the source is a run that was exported.
        ended: `closed`, or why the recording ended early.
        offset_ns: is added to all times that are given from now on.
        dropped: events that the source says it has lost.
    """

    def __init__(self, run: ImportedRun, rank: int, directory: Path, run_id: str) -> None:
        self.number = rank
        self.host = self.clock = ""
        self.device = "cpu"
        self.pid = 0
        self.offset_ns = 0
        self.known: RankFacts | None = None
        self.ended = "closed"
        self.dropped = 0
        self.rows = 0
        self.topology = Topology(rank=rank, world_size=run.world_size)
        self._run = run
        self._run_id = run_id
        self._held: list[Mapping[str, Any]] = []
        self._held_counters: list[tuple[int, str, float]] = []
        self._batches = Batches(EVENT_SCHEMA)
        self._counter_batches = Batches(COUNTER_SCHEMA)
        self._events = StreamWriter(
            directory / events_file(rank),
            EVENT_SCHEMA,
            "events",
            run_id=run_id,
            rank=rank,
            codec=run.codec,
        )
        self._counters: StreamWriter | None = None
        self._counters_path = directory / counters_file(rank)
        self._events.write(self._batches.batch({name: [] for name in EVENT_SCHEMA.names}))

    def add(self, **event: Any) -> None:
        """One event: values by column, `start` in the source's own ns. What is None is null."""
        self._held.append(event)
        if len(self._held) >= _ROWS:
            self.flush()

    def write(self, columns: Mapping[str, Column]) -> None:
        """Many events at once: columns of equal length, `start` in the source's own ns (int64).

        Raises:
            DamagedTrace: values that the format cannot hold.
        """
        self.flush()
        try:
            starts = np.asarray(columns["start"], np.int64)
        except (OverflowError, TypeError, ValueError) as error:
            raise DamagedTrace(f"rank {self.number}: a start that cannot be: {error}") from error
        if len(starts):
            taken_off = int(starts[0]) - self._relative(int(starts[0]))
            self._write(dict(columns) | {"start": starts - taken_off})

    def count(self, ts: int, name: str, value: float) -> None:
        """One value of a counter, whose unit follows a slash: `memory.allocated/bytes`."""
        self._held_counters.append((self._relative(ts), name, value))
        if len(self._held_counters) >= _ROWS:
            self._flush_counters()

    def flush(self) -> None:
        """Write what is held; the rest is written at the end."""
        if self._held:
            names = dict.fromkeys(name for event in self._held for name in event)
            columns = {name: [event.get(name) for event in self._held] for name in names}
            columns["start"] = [self._relative(event["start"]) for event in self._held]
            self._held.clear()
            self._write(columns)

    def _relative(self, time_ns: int) -> int:
        return self._run.relative(time_ns + self.offset_ns)

    def _write(self, columns: Mapping[str, Column]) -> None:
        try:
            batch = self._batches.batch(columns)
        except ValueError as error:
            raise DamagedTrace(f"rank {self.number}: an event that cannot be: {error}") from error
        self._events.write(batch)
        self._run.watch(self.number, batch)
        self.rows += batch.num_rows

    def _flush_counters(self) -> None:
        if not self._held_counters:
            return
        if self._counters is None:
            self._counters = StreamWriter(
                self._counters_path,
                COUNTER_SCHEMA,
                "counters",
                run_id=self._run_id,
                rank=self.number,
            )
        columns = zip(("ts", "name", "value"), zip(*self._held_counters, strict=True), strict=True)
        try:
            self._counters.write(self._counter_batches.batch({k: list(v) for k, v in columns}))
        except ValueError as error:
            raise DamagedTrace(f"rank {self.number}: a counter that cannot be: {error}") from error
        self._held_counters.clear()

    def _finish(self, world_size: int) -> RankFacts:
        self.flush()
        self._flush_counters()
        if self.known is not None:
            return replace(
                self.known, rank=self.number, run_id=self._run_id, boot_id=self.clock,
                world_size=world_size,
            )  # fmt: skip
        return RankFacts(
            rank=self.number,
            run_id=self._run_id,
            host=self.host,
            boot_id=self.clock,
            pid=self.pid,
            device=self.device,
            coordinates=self.topology.coordinates,
            stages=tuple(sorted(self.topology.stages)),
            groups=self.topology.group_facts,
            ended=self.ended,
            dropped=self.dropped,
            world_size=world_size,
        )

    def _close(self) -> None:
        try:
            self._events.close()
        finally:
            if self._counters is not None:
                self._counters.close()


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.name:
        raise UsageError(f"{out}: name a directory to make, such as {out / 'run'}")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise UsageError(
            f"{out}: exists already; name another directory, or pass --overwrite to replace a run "
            "that was imported before"
        )
    try:
        is_imported = out.is_dir() and read_run_meta(out).source is not None
    except (TraceError, OSError):
        is_imported = False
    if not is_imported:
        raise UsageError(f"{out}: is not an imported run, so it is not replaced; name another one")


def _make_part(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".{escape(out.name)}.*{_PART}"):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
        part = out.with_name(f".{out.name}.{secrets.token_hex(8)}{_PART}")
        part.mkdir()
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be written to ({error.strerror}); name another directory"
        ) from error
    return part


def _take_place(part: Path, out: Path) -> None:
    if out.exists():
        before = part.with_name(f"{part.name}.before")
        out.rename(before)
        part.rename(out)
        shutil.rmtree(before, ignore_errors=True)
    else:
        part.rename(out)
