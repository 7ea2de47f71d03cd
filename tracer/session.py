"""`Tracer`: what a user wraps a training loop with.

It finds the collectors, starts the recorder and its writer, counts steps, and takes everything
out again. Only wrong use raises (a second tracer, a directory that holds a run already), and
only before recording starts; whatever fails later ends the tracing and not the training.
"""

from __future__ import annotations

import atexit
import datetime
import hashlib
import os
import platform
import socket
import sys
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from types import TracebackType
from typing import Any

from tracer.errors import UsageError
from tracer.protocol import Collector
from tracer.recorder import NONE, Recorder, Span
from tracer.run_files import RankFacts, RunMeta, write_run_meta
from tracer.schema import Kind, events_file, facts_file
from tracer.topology import Topology
from tracer.writer import Writer

ENTRY_POINTS = "rankscope.collectors"

_current: Tracer | None = None
"""The tracer that records in this process: hooks are process-wide, so there can be one only."""


class Tracer:
    """Records this rank into `path`, one directory for all ranks of the run.

    Args:
        path: the run directory; every rank names the same one.
        mesh: the `DeviceMesh` of the run. One that is built while recording is found by itself.
        schedule: the pipeline schedule; likewise.
        config: what you want to find again beside the numbers (JSON values).
        collectors: sources of events instead of all installed ones.
        link_peaks: peak GB/s (1e9 bytes per second) by mesh dimension, for utilization.
        enabled: False, or RANKSCOPE_DISABLE=1 in the environment, makes everything a no-op.
        overwrite: replace a run that is there already.
        automatic_steps: end steps by themselves, where the first work after an optimizer step
            begins, instead of at calls of `step`.
        flush_interval_s: at most this many seconds of events are lost if the process is killed.

    Raises:
        UsageError: `path` holds a run of this rank already, or (when entered) another tracer
            is recording in this process.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mesh: Any = None,
        schedule: Any = None,
        config: Mapping[str, Any] | None = None,
        collectors: Sequence[Collector] | None = None,
        link_peaks: Mapping[str, float] | None = None,
        enabled: bool = True,
        overwrite: bool = False,
        automatic_steps: bool = False,
        flush_interval_s: float = 1.0,
    ) -> None:
        self.path = Path(path)
        self.enabled = enabled and os.environ.get("RANKSCOPE_DISABLE", "0") in ("", "0")
        self.recorder = Recorder()
        self._given = mesh, schedule
        self._config = dict(config or {})
        self._link_peaks = dict(link_peaks or {})
        self._collectors = collectors
        self._installed: list[Collector] = []
        self._automatic = automatic_steps
        self._flush_interval_s = flush_interval_s
        self._step_started: int | None = None
        self._optimizer_ended: int | None = None
        self._writer: Writer | None = None
        self._created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        rank, world_size = _rank_and_world_size()
        self.topology = Topology(rank=rank, world_size=world_size)
        self._run_id = _run_id(world_size)
        if self.enabled:
            _claim(self.path, rank, world_size, overwrite=overwrite)

    def __enter__(self) -> Tracer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to record; `with` does this.

        Raises:
            UsageError: another tracer is recording in this process.
        """
        global _current
        if not self.enabled:
            return
        if _current is not None:
            raise UsageError(
                f"a tracer is recording into {_current.path} already; "
                "leave its `with` block (or call stop) before starting another"
            )
        _current = self
        atexit.register(self.stop)
        try:
            self._begin()
        except Exception as error:
            self.recorder.fault(error)
            self._uninstall()

    def stop(self) -> None:
        """Take out every hook, write what is left, close the files. Calling it twice is fine."""
        global _current
        if _current is not self:
            return
        if self._automatic and self._optimizer_ended is not None:
            self._end_step(self._optimizer_ended)
        self.recorder.active = False
        self._uninstall()
        if self._writer is not None:
            self._writer.stop()
        atexit.unregister(self.stop)
        _current = None

    def step(self) -> None:
        """The training step ends here and the next one begins."""
        if self.recorder.active:
            try:
                self._automatic = False
                self._end_step(self.recorder.clock())
            except Exception as error:
                self.recorder.fault(error)

    def span(self, name: str, *, kind: Kind = Kind.USER) -> Span:
        """`with t.span("augment"):` records the block; `kind=Kind.DATA` for data loading."""
        return self.recorder.span(kind, name)

    def _begin(self) -> None:
        recorder = self.recorder
        self._writer = Writer(
            self.path,
            recorder,
            facts=self._facts,
            on_facts=self._write_meta,
            flush_interval_s=self._flush_interval_s,
        )
        mesh, schedule = self._given
        if mesh is not None:
            self.topology.note_mesh(mesh)
        found = _installed_collectors() if self._collectors is None else self._collectors
        for collector in found:
            self._installed.append(collector)
            collector.install(recorder, self.topology)
        if schedule is not None:
            recorder.describe_schedule(schedule)
        if self._automatic:
            recorder.step = NONE
            recorder.on_compute = self._compute_begins
            recorder.on_optimizer = self._optimizer_ends
        else:
            self._step_started = recorder.clock()
        self._writer.start()
        recorder.active = True

    def _uninstall(self) -> None:
        while self._installed:
            try:
                self._installed.pop().uninstall()
            except Exception as error:
                self.recorder.fault(error)

    def _compute_begins(self) -> None:
        now = self.recorder.clock()
        if self._step_started is None:
            self._step_started = now
            self.recorder.step = 0
        elif self._optimizer_ended is not None:
            self._end_step(now)

    def _optimizer_ends(self) -> None:
        if self._step_started is not None:
            self._optimizer_ended = self.recorder.clock()

    def _end_step(self, now: int) -> None:
        if self._step_started is None:
            return
        recorder = self.recorder
        started, self._step_started = self._step_started, now
        self._optimizer_ended = None
        recorder.emit(Kind.STEP, recorder.names.intern("step"), started, now - started)
        recorder.step += 1

    def _facts(self) -> RankFacts:
        topology = self.topology
        return RankFacts(
            rank=topology.rank,
            run_id=self._run_id,
            host=socket.gethostname(),
            boot_id=_boot_id(),
            pid=os.getpid(),
            device=_device(),
            coordinates=topology.coordinates,
            stages=tuple(sorted(topology.stages)),
            groups=topology.group_facts,
            dropped=self.recorder.dropped,
        )

    def _write_meta(self) -> None:
        if self.topology.rank == 0:
            write_run_meta(
                self.path,
                RunMeta(
                    run_id=self._run_id,
                    world_size=self.topology.world_size,
                    created=self._created,
                    mesh=self.topology.mesh,
                    schedule=self.topology.schedule,
                    config=self._config,
                    versions=_versions(),
                    link_peaks=self._link_peaks,
                ),
            )


def _installed_collectors() -> list[Collector]:
    return [entry.load()() for entry in entry_points(group=ENTRY_POINTS)]


def _rank_and_world_size() -> tuple[int, int]:
    """From the process group if there is one, else from the launcher's environment."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _run_id(world_size: int) -> str:
    """Equal on all ranks of one attempt: taken from what the launcher gave to all of them."""
    if world_size == 1:
        return uuid.uuid4().hex[:12]
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT")
    shared = "\0".join(os.environ.get(name, "") for name in names)
    return hashlib.sha256(shared.encode()).hexdigest()[:12]


def _claim(directory: Path, rank: int, world_size: int, *, overwrite: bool) -> None:
    """Make the directory; each rank answers for its own files, so that ranks cannot race."""
    events = directory / events_file(rank)
    if events.exists() and not overwrite:
        raise UsageError(
            f"{events}: this directory holds a run already; name another one, "
            "or pass overwrite=True (--overwrite) to replace it"
        )
    directory.mkdir(parents=True, exist_ok=True)
    _remove_rank(directory, rank)
    if rank == 0 and overwrite:
        for stale in directory.glob("rank-*.arrows"):
            number = stale.name.removeprefix("rank-").partition(".")[0]
            if number.isdigit() and int(number) >= world_size:
                _remove_rank(directory, int(number))


def _remove_rank(directory: Path, rank: int) -> None:
    stem = facts_file(rank).removesuffix(".json")
    for path in directory.glob(f"{stem}.*"):
        path.unlink(missing_ok=True)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return f"cuda:{torch.cuda.current_device()} ({torch.cuda.get_device_name()})"
    return "cpu"


def _versions() -> dict[str, str]:
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "rankscope": version("rankscope"),
    } | ({"torch": str(torch.__version__)} if torch is not None else {})


def _stop_in_child() -> None:
    """A forked child (a data-loading worker) shares our buffers but has no writer: be silent."""
    global _current
    if _current is not None:
        _current.recorder.active = False
        atexit.unregister(_current.stop)
        _current = None


os.register_at_fork(after_in_child=_stop_in_child)
