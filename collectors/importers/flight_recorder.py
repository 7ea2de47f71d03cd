"""torch's flight recorder: the collectives that each rank was asked for, from the dumps of a job.

A dump is what torch writes when a collective times out (TORCH_FR_DUMP_TEMP_FILE and the rank), or
what `torch._C._distributed_c10d._dump_fr_trace` returns: a pickle, or JSON. It has the time at
which each operation was asked for, not how long it took, except on NCCL with timing switched on.
Source: torch/csrc/distributed/c10d/FlightRecorder.hpp of torch 2.13, format version 2.10.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from collectors.importers.data_pickle import MAX_BYTES, read_data_pickle
from collectors.importers.flight_dump import Raw, checked_entries, checked_groups
from collectors.importers.flight_operations import Operation, is_pending, operations_of
from collectors.importers.formats import Advance, Format
from collectors.importers.imported_run import ImportedRank, ImportedRun
from collectors.importers.process_groups import group_of
from collectors.importers.whole_recording import STEP, one_step
from tracer.errors import DamagedTrace, TraceError
from tracer.schema import MAX_RANK, NOT_COMPLETE
from tracer.text import plain_text
from tracer.topology import Group

HOST_LANE: Final = "host:flight recorder"
DEVICE_LANE: Final = "device:nccl communication"
_CLOCK: Final = "wall clock"
"""All times are of the hosts' wall clocks, which are taken for one."""
_RANK: Final = re.compile(r"([0-9]{1,9})(?:\.[A-Za-z]+)*$")
_DEFAULT_GROUP: Final = "default_pg"
_PICKLE: Final = b"\x80"
_HEAD_BYTES: Final = 1 << 16


@dataclass(kw_only=True, slots=True)
class _Dump:
    """One rank's: its entries oldest first, and its groups' members where it says them."""

    raws: list[Raw]
    groups: Mapping[str, tuple[int, ...]]
    version: str
    library: str

    @property
    def overwritten(self) -> int:
        """Operations that were recorded and are no longer here."""
        return int(self.raws[0]["record_id"]) if self.raws else 0


def _read(files: Sequence[Path], run: ImportedRun, advance: Advance, **options: Any) -> None:
    dumps = {}
    for rank, path in sorted(_by_rank(files).items()):
        dumps[rank] = _dump(path)
        advance(path.stat().st_size)
    times = [raw["time_created_ns"] for dump in dumps.values() for raw in dump.raws]
    if not times:
        raise TraceError(
            f"{files[0].parent}: the dumps hold no operation; was TORCH_FR_BUFFER_SIZE 0, or the "
            "dump made without collectives?"
        )
    run.world_size = _world_size(dumps)
    run.versions |= _versions(dumps)
    run.relative(min(times))
    members = _members(dumps, run.world_size)
    overwritten = {rank for rank, dump in dumps.items() if dump.overwritten}
    end = max(times)
    for rank, dump in dumps.items():
        mine = run.rank(rank, clock=_CLOCK)
        sizes = {name: len(ranks) for name, ranks in members[rank].items()}
        for number, operation in enumerate(operations_of(dump.raws, sizes)):
            _write(mine, number, operation, members[rank][operation.group], overwritten)
            end = max(end, sum(operation.place or (0,)))
    _say_what_is_missing(run, dumps)
    one_step(run, min(times), end, ranks=dumps, why="the flight recorder notes none")


def _by_rank(files: Sequence[Path]) -> dict[int, Path]:
    """A dump does not say whose it is: torch puts the rank at the end of the file's name."""
    found: dict[int, Path] = {}
    for path in files:
        match = _RANK.search(path.name)
        if match is None or int(match[1]) > MAX_RANK:
            raise DamagedTrace(
                f"{path}: of which rank? The name must end with the rank's number, as in "
                "nccl_trace_rank_3; rename the file"
            )
        before = found.setdefault(int(match[1]), path)
        if before != path:
            raise DamagedTrace(
                f"{path}: a second dump of rank {match[1]}, beside {before}; name the files of one "
                "dump only"
            )
    return found


def _dump(path: Path) -> _Dump:
    raw = _content(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("entries", []), (list, tuple)):
        raise DamagedTrace(f"{path}: not a dump of the flight recorder: it has no list 'entries'")
    version, library = raw.get("version"), raw.get("comm_lib_version")
    return _Dump(
        raws=checked_entries(path, raw.get("entries", [])),
        groups=checked_groups(path, raw.get("pg_config")),
        version=plain_text(version) if isinstance(version, str) else "unknown",
        library=plain_text(library) if isinstance(library, str) else "",
    )


def _content(path: Path) -> Any:
    with path.open("rb") as file:
        first = file.read(1)
    if first == _PICKLE:
        return read_data_pickle(path)
    if path.stat().st_size > MAX_BYTES:
        raise DamagedTrace(
            f"{path}: larger than {MAX_BYTES >> 20} MB; keep fewer operations "
            "(TORCH_FR_BUFFER_SIZE)"
        )
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        why = plain_text(str(error))[:100]
        raise DamagedTrace(
            f"{path}: neither a pickle nor JSON, or cut off ({why}); copy it again"
        ) from error


def _world_size(dumps: Mapping[int, _Dump]) -> int:
    named = (rank for dump in dumps.values() for ranks in dump.groups.values() for rank in ranks)
    return max([*dumps, *named]) + 1


def _versions(dumps: Mapping[int, _Dump]) -> dict[str, str]:
    formats = sorted({dump.version for dump in dumps.values()})
    libraries = sorted({dump.library for dump in dumps.values()} - {""})
    found = {"flight recorder": ", ".join(formats)}
    return found | ({"nccl": ", ".join(libraries)} if libraries else {})


def _members(dumps: Mapping[int, _Dump], world_size: int) -> dict[int, dict[str, tuple[int, ...]]]:
    """Rank → its groups, by the name that it calls them by → global ranks, sorted.

    Where the backend has not noted the members, they are the ranks that used the group.
    """
    users: dict[tuple[str, str], set[int]] = defaultdict(set)
    for rank, dump in dumps.items():
        for group in {raw["process_group"] for raw in dump.raws}:
            users[group].add(rank)
    found: dict[int, dict[str, tuple[int, ...]]] = {rank: {} for rank in dumps}
    for (name, desc), ranks in users.items():
        known = tuple(range(world_size)) if desc == _DEFAULT_GROUP else tuple(sorted(ranks))
        for rank in ranks:
            found[rank][name] = dumps[rank].groups.get(name, known)
    return found


def _write(
    rank: ImportedRank,
    number: int,
    operation: Operation,
    ranks: Sequence[int],
    overwritten: Collection[int],
) -> None:
    """The call, and what else is known of it."""
    group = group_of(rank.topology, ranks, operation.description)
    common: dict[str, Any] = {
        "name": operation.op,
        "kind": "collective",
        "step": STEP,
        "group": group.name,
        "seq": operation.seq,
        "bytes": operation.bytes,
        "count": operation.elements,
        "dtype": operation.dtype,
        "correlation": number,
    }
    if operation.is_message:
        peer = operation.peer
        known = peer is not None and peer < len(ranks)
        common["peer"] = ranks[peer] if peer is not None and known else None
        common["kind"] = operation.op
        common["seq"] = _message_number(rank.number, common, group, overwritten)
    rank.add(start=operation.created, duration=0, lane=HOST_LANE, **common)
    if operation.place is not None:
        start, duration = operation.place
        rank.add(start=start, duration=duration, lane=DEVICE_LANE, **common)
    if operation.pending is not None:
        where = f", called from {operation.pending}" if operation.pending else ""
        said = {"kind": "marker", "name": f"{NOT_COMPLETE}{operation.op}{where}"}
        rank.add(start=operation.created, duration=0, lane=HOST_LANE, **(common | said))


def _message_number(
    own: int, message: Mapping[str, Any], group: Group, overwritten: Collection[int]
) -> int | None:
    """Both ends count their messages alike, unless one has lost the first of them."""
    peer = message["peer"]
    if peer is None or own in overwritten or peer in overwritten:
        return None
    ends = (own, peer) if message["kind"] == "send" else (peer, own)
    return group.next_message(*ends)


def _say_what_is_missing(run: ImportedRun, dumps: Mapping[int, _Dump]) -> None:
    run.lacks(
        "the flight recorder notes when an operation was asked for, on the wall clock of its "
        "host: times of ranks on different hosts compare as well as these clocks agree (with NTP "
        "to some milliseconds)"
    )
    run.lacks("computation and memory: bubbles, time accounting and what-if have nothing to go by")
    if any(raw["duration_ms"] is not None for dump in dumps.values() for raw in dump.raws):
        run.lacks(
            "when operations began on the device: their lengths are measured, and each is put as "
            "late as it can have been, so that waiting for others cannot be told from the transfer"
        )
    else:
        run.lacks(
            "how long operations took (NCCL notes it with TORCH_NCCL_ENABLE_TIMING=1, gloo never): "
            "there is no bandwidth"
        )
    if not any(dump.groups for dump in dumps.values()):
        run.lacks(
            "the members of process groups (gloo does not note them): taken to be the ranks that "
            "used the group"
        )
    pending = sum(is_pending(raw) for dump in dumps.values() for raw in dump.raws)
    if pending:
        run.lacks(
            f"the end of {pending:,} operations that were going on at the dump: `rankscope check` "
            "names them, and who did not arrive"
        )
    lost = max(dump.overwritten for dump in dumps.values())
    if lost:
        run.lacks(
            f"what happened before: a recorder had overwritten {lost:,} operations, and the "
            "messages of its rank cannot be paired; raise TORCH_FR_BUFFER_SIZE"
        )


def _recognizes(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[:1] == _PICKLE:
        return b"pg_config" in head and b"version" in head
    is_object = head.lstrip()[:1] == b"{"
    named = b'"comm_lib_version"' in head or b'"pg_config"' in head
    is_kineto = b'"traceEvents"' in head or b'"distributedInfo"' in head
    return is_object and named and not is_kineto


FORMAT: Final = Format(
    name="flight-recorder",
    title="torch's flight recorder",
    help="""Import dumps of torch's flight recorder: which collectives each rank was asked for.

    PATHS are dumps, one per rank, or a folder of them: pickles as torch writes them when a
    collective times out (TORCH_FR_DUMP_TEMP_FILE, default /tmp/nccl_trace_rank_ and the rank), or
    what torch._C._distributed_c10d._dump_fr_trace() and _dump_fr_trace_json() return, written to
    a file whose name ends with the rank. Pickles are read as data: one that names a function is
    refused.

    `rankscope check RUN` then names the first collective of each group that some ranks called
    and others did not, or called otherwise.
    """,
    patterns=("*[0-9]", "*[0-9].json", "*[0-9].pkl", "*[0-9].pickle", "*[0-9].pt"),
    recognizes=_recognizes,
    read=_read,
)
