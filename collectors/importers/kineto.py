"""Kineto: the Chrome JSON that torch.profiler writes, one file per rank (docs/importing.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from collectors.importers import exported_chrome
from collectors.importers.chrome_json import is_chrome_json
from collectors.importers.formats import Advance, Format, Option
from collectors.importers.imported_run import ImportedRun
from collectors.importers.kineto_events import KinetoEvents
from collectors.importers.kineto_files import read_files
from collectors.importers.kineto_rank import RankRows
from collectors.importers.kineto_reading import KinetoFile
from collectors.importers.process_groups import note_groups
from tracer.errors import DamagedTrace, TraceError
from tracer.run_files import SchedulePlan
from tracer.schema import MAX_RANK
from tracer.text import plain_text

_RANK: Final = re.compile(r"rank[-_]?(\d{1,7})", re.IGNORECASE)
_WORKER: Final = re.compile(r"(.+)_\d+\.\d+\.pt\.trace\.json(\.gz)?")
"""Name of a file of `tensorboard_trace_handler`: <host>_<pid>.<time>.pt.trace.json."""
_ACTION: Final = re.compile(r"(\d+)[FBIW](\d+)")


def read(
    files: Sequence[Path],
    run: ImportedRun,
    advance: Advance,
    *,
    operators: str = "outer",
    launches: str = "no",
) -> None:
    """Read one trace file per rank (or several, of different steps)."""
    reader = _Reader(run, len(files), operators=operators, launches=launches == "yes")

    def take(file: KinetoFile) -> None:
        if file.events is None:
            exported_chrome.read(file.path, run, advance)
            return
        try:
            reader.add(file.path, file.facts, file.events)
        except DamagedTrace as error:
            if str(file.path) in str(error):
                raise
            raise DamagedTrace(f"{file.path}: {error}") from error

    read_files(files, advance, take)
    run.schedule = _schedule(run, reader.plans)
    if run.schedule is None and run.world_size > 1 and run.known is None:
        run.lacks(
            "no labels of pipeline actions (torch's Schedule1F1B writes none, GPipe and the "
            "runtime schedules do): bubbles and schedules are not shown"
        )


class _Reader:
    """Adds file after file to a run.

    Attributes:
        plans: the pipeline actions of each rank, in their order.
    """

    def __init__(self, run: ImportedRun, files: int, *, operators: str, launches: bool) -> None:
        self.plans: dict[int, list[str]] = {}
        self._run = run
        self._files = files
        self._operators = operators
        self._launches = launches
        self._seen: dict[int, list[tuple[Path, set[int]]]] = {}
        self._operations: dict[int, int] = {}

    def add(self, path: Path, about: Mapping[str, Any], events: KinetoEvents) -> None:
        """One file: what stands beside its events, and these."""
        run = self._run
        facts = _mapping(about.get("distributedInfo"))
        number = _rank(path, facts, self._files)
        _check_not_twice(self._seen, number, path, {step for step, *_ in events.steps})
        world_size = facts.get("world_size")
        if isinstance(world_size, int) and 0 < world_size <= MAX_RANK:
            run.world_size = max(run.world_size, world_size)
        host = _host(path, about)
        clock = f"host {host}" if host else ""
        rank = run.rank(number, host=host, clock=clock, device=_device(about))
        rank.flush()
        rank.offset_ns = _base(about)
        rows = RankRows(
            rank,
            events,
            note_groups(rank.topology, facts.get("pg_config")),
            operators=self._operators,
            launches=self._launches,
            first_correlation=self._operations.get(number, 0),
        )
        rows.write()
        rank.flush()
        self._operations[number] = self._operations.get(number, 0) + len(rows.operations)
        self.plans.setdefault(number, rows.actions)
        _note_versions(run, about)
        _note_lacks(run, events, rows, host)


def _rank(path: Path, facts: Mapping[str, Any], files: int) -> int:
    """Of `distributedInfo`, else of the file's name; a lone file is rank 0."""
    rank = facts.get("rank")
    if isinstance(rank, int) and not isinstance(rank, bool) and 0 <= rank <= MAX_RANK:
        return rank
    named = _RANK.findall(path.name)
    if named and int(named[-1]) <= MAX_RANK:
        return int(named[-1])
    if files == 1:
        return 0
    raise TraceError(
        f"{path}: which rank? It has no distributedInfo (the profiler ran before "
        "init_process_group); put rank0, rank1, … into the files' names"
    )


def _check_not_twice(
    seen: dict[int, list[tuple[Path, set[int]]]], rank: int, path: Path, steps: set[int]
) -> None:
    for before, its_steps in seen.get(rank, []):
        if steps & its_steps or not steps or not its_steps:
            raise TraceError(
                f"{before} and {path} are both of rank {rank} and of the same steps: two "
                "recordings; import one at a time"
            )
    seen.setdefault(rank, []).append((path, steps))


def _host(path: Path, facts: Mapping[str, Any]) -> str:
    """Since torch 2.4 or so the file says it; before, the trace handler put it into the name."""
    named = facts.get("host_name") or facts.get("hostname")
    if isinstance(named, str) and named:
        return plain_text(named)
    worker = _WORKER.fullmatch(path.name)
    return worker[1] if worker else ""


def _device(facts: Mapping[str, Any]) -> str:
    devices = facts.get("deviceProperties")
    if not isinstance(devices, list) or not devices:
        return "cpu"
    return f"cuda ({plain_text(str(_mapping(devices[0]).get('name', 'unknown')))})"


def _note_versions(run: ImportedRun, facts: Mapping[str, Any]) -> None:
    known = _mapping(facts.get("distributedInfo"))
    for name, value in (
        ("cuda", facts.get("cuda_runtime_version")),
        ("cuda driver", facts.get("cuda_driver_version")),
        ("nccl", known.get("nccl_version")),
        ("backend", known.get("backend")),
    ):
        if isinstance(value, (str, int)):
            run.versions[name] = plain_text(str(value))


def _note_lacks(run: ImportedRun, events: KinetoEvents, rows: RankRows, host: str) -> None:
    """What this file does not hold, in the user's words."""
    if not events.steps:
        run.lacks("no steps (call profiler.step() in the loop): the recording is shown as one step")
    if not rows.has_device:
        run.lacks("no device events: times are of the host")
    if any(one.group is None for one in rows.operations.described):
        run.lacks(
            "process groups of some operations (gloo names none): they are shown, but not matched "
            "between ranks, and have no bandwidth"
        )
    elif any(one.bytes is None and one.op != "barrier" for one in rows.operations.described):
        run.lacks("sizes of some operations: they have no bandwidth")
    if events.left_out.get("gloo"):
        run.lacks(
            "when gloo worked: its annotations end when somebody lets go of the operation, so they "
            "are left out"
        )
    if not host:
        run.lacks("host names: ranks are laid on each other by the ends of collectives")
    if events.is_coarse:
        run.lacks("nanoseconds: times are exact to 0.25 µs")
    if events.left_out.get("python_function"):
        run.lacks("Python functions and modules are left out")


def _schedule(run: ImportedRun, plans: Mapping[int, list[str]]) -> SchedulePlan | None:
    """The order of actions as the ranks of one pipeline did them, if all of them say."""
    by_place: dict[int, list[str]] = {}
    for rank, actions in sorted(plans.items()):
        place = run.ranks[rank].topology.coordinates.get("pp", rank)
        by_place.setdefault(place, actions)
    matches = [_ACTION.fullmatch(action) for actions in by_place.values() for action in actions]
    found = [match for match in matches if match]
    if not found or not all(by_place.values()) or set(by_place) != set(range(len(by_place))):
        return None
    stages = max(int(match[1]) for match in found) + 1
    return SchedulePlan(
        name="as recorded",
        stages=stages,
        microbatches=max(int(match[2]) for match in found) + 1,
        virtual_stages=max(stages // len(by_place), 1),
        pipeline_size=len(by_place),
        plan={place: tuple(actions) for place, actions in by_place.items()},
    )


def _base(facts: Mapping[str, Any]) -> int:
    """What times in the file count from, ns since 1970; traces before torch 2.4 count from 1970."""
    base = facts.get("baseTimeNanoseconds", 0)
    is_time = isinstance(base, int) and not isinstance(base, bool) and 0 <= base < 1 << 62
    return base if is_time else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


FORMAT: Final = Format(
    name="kineto",
    title="torch.profiler (Kineto, Chrome JSON), plain or .gz",
    help="""Read traces of torch.profiler (Kineto): one JSON file per rank, plain or .gz.

    PATHS are files, or a folder with the files of one recording. The rank is that of
    distributedInfo in the file, else of its name (rank3.json.gz).

    \b
    Examples:
      rankscope import kineto traces/ -o runs/a
      rankscope import kineto rank*.json.gz -o runs/a --operators all

    \b
    Read:  ProfilerStep#n as steps; kernels, copies and NCCL operations with group, bytes and
           number; labels of pipeline schedules (PP:0F3, Forward 3); Optimizer.step; DDP's forward
           and backward; record_function; profile_memory as counters.
    Lost:  Python functions, tensor shapes, inner operators (see --operators), flow arrows.

    docs/importing.md says what becomes of each event.
    """,
    patterns=("*.json", "*.json.gz"),
    recognizes=lambda path: is_chrome_json(path, b'"traceEvents"', b'"ph"'),
    read=read,
    options=(
        Option(
            name="operators",
            choices=("outer", "all", "none"),
            default="outer",
            help="Operators of the host: outermost only, all, or none.",
        ),
        Option(
            name="launches",
            choices=("no", "yes"),
            default="no",
            help="Keep the calls that launch kernels, tied to these by correlation.",
        ),
    ),
)
