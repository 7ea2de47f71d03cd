"""Join the directories of one run, each with the ranks of one host, into one directory or store.

Nothing is taken away from the sources. What arrived before is not copied again: the streams of a
rank only grow, so that one of the same length is the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
from pyarrow import ipc

from collectors.scratch import scratch
from dashboard.runs.caches import Fingerprint
from dashboard.runs.mirror import OF_A_RUN
from dashboard.runs.open_packed import SUMMARY, packed_ranks, publish
from dashboard.runs.packed import NAME as PACKED
from dashboard.runs.packed import PackedRank, pack, packed_file
from dashboard.runs.stores import Store
from tracer.errors import DamagedTrace, NotATrace, TraceError, UsageError
from tracer.schema import MAX_RANK, RUN_FILE, events_file, facts_file
from tracer.streams import read_stream
from tracer.text import plain_text
from tracer.topology import compress

_AT_ONCE: Final = 8
_MOST_JSON: Final = 16 << 20


@dataclass(kw_only=True, slots=True, frozen=True)
class _Item:
    """One file of a source. bytes: its length."""

    store: Store
    name: str
    bytes: int
    rank: int | None

    def __str__(self) -> str:
        return f"{self.store}/{self.name}"


@dataclass(kw_only=True, slots=True, frozen=True)
class Plan:
    """What is to be copied. bytes: of all of it; notes: what to know of the sources."""

    run_id: str
    items: tuple[_Item, ...]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(item.bytes for item in self.items)


@dataclass(kw_only=True, slots=True, frozen=True)
class Gathered:
    """What is there now: ranks, and of the run's `world_size` (0 if unknown) the missing ones.
    copied and kept: files. is_summed_up: whether `packed.json` was written.
    """

    run_id: str
    ranks: tuple[int, ...]
    missing: tuple[int, ...]
    world_size: int
    copied: int
    kept: int
    is_summed_up: bool


def survey(sources: Sequence[Store], destination: Store) -> Plan:
    """What the sources hold, if it is one run, and that which the destination has a part of.

    Raises:
        UsageError: the destination is one of the sources.
        TraceError: a source holds no run, they are of different runs, or two hold different files
            of one rank.
    """
    if any(source.place == destination.place for source in sources):
        raise UsageError(f"{destination}: is a source as well; name another place to gather into")
    items = [item for source in sources for item in _items(source)]
    events = [item for item in items if _is_events(item.name) and item.bytes]
    if not events:
        raise DamagedTrace(f"{sources[0]}: all rank files are empty: nothing was recorded")
    for rank, name in list(_events_in(destination.names()).items())[:1]:
        events.append(_Item(store=destination, name=name, bytes=1, rank=rank))
    run_id = _run_of(events[0])
    for item in events[1:]:
        if (other := _run_of(item)) != run_id:
            raise TraceError(
                f"{events[0]} is of run {run_id}, {item} of run {other}: only directories of one "
                "run can be joined; leave one of them out"
            )
    found: dict[str, _Item] = {}
    for item in items:
        before = found.setdefault(item.name, item)
        if before is not item and _differ(before, item):
            raise TraceError(
                f"{before} and {item} differ: two sources hold the same rank; name only one"
            )
    return Plan(run_id=run_id, items=tuple(found.values()), notes=tuple(_notes(found)))


def _items(source: Store) -> list[_Item]:
    seen = source.names()
    names = [name for name in seen if OF_A_RUN.fullmatch(name) and name != SUMMARY]
    if not any(_is_events(name) for name in names):
        raise TraceError(f"{source}: no {events_file(0)} or other rank files are there")
    return [
        _Item(store=source, name=name, bytes=seen[name][0], rank=_rank_of(name)) for name in names
    ]


def gather(
    plan: Plan,
    destination: Store,
    *,
    packed: bool,
    advance: Callable[[int], object] = lambda count: None,
) -> Gathered:
    """Copy what the destination has not yet; `packed`: events as Parquet (packed.py), as they stay
    where a source has them so. `advance` is told of the plan's bytes as they are dealt with; what a
    file has grown by since is copied as well.

    Raises:
        UsageError: the destination holds packed ranks, and these are not to be, or the reverse.
        TraceError: a store cannot be read or written to, or a rank's stream cannot be read.
    """
    packed = packed or any(PACKED.fullmatch(item.name) for item in plan.items)
    there = destination.names()
    unlike = [name for name in _events_in(there).values() if bool(PACKED.fullmatch(name)) != packed]
    if unlike:
        said = "not packed: gather without --pack" if packed else "packed: gather with --pack"
        raise UsageError(f"{destination}/{unlike[0]}: the ranks there are {said}")

    def deal_with(planned: _Item, item: _Item) -> bool:
        if packed and item.rank is not None and item.name == events_file(item.rank):
            did = _pack(item, destination, there)
            advance(planned.bytes)
            return did
        return _copy(item, destination, there, _at_most(planned.bytes, advance))

    # Of a rank that still records, what says how far its events go must not be newer than these;
    # and how long these are is asked after that, or what came meanwhile would be taken for copied.
    events = [item for item in plan.items if _is_events(item.name)]
    others = [item for item in plan.items if not _is_events(item.name)]
    done: list[bool] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for items in (others, events):
            done += pool.map(deal_with, items, _as_now(items))
    now = destination.names()
    ranks = tuple(sorted(_events_in(now)))
    world_size = _world_size(destination, now, ranks)
    missing = tuple(sorted(set(range(world_size or max(ranks, default=-1) + 1)) - set(ranks)))
    is_complete = packed and bool(world_size) and not missing
    if is_complete and (any(done) or SUMMARY not in now):
        publish(destination)
    return Gathered(
        run_id=plan.run_id,
        ranks=ranks,
        missing=missing,
        world_size=world_size,
        copied=sum(done),
        kept=len(done) - sum(done),
        is_summed_up=is_complete,
    )


def _as_now(items: Sequence[_Item]) -> list[_Item]:
    """The same with their lengths as they are now; a file that is gone keeps what it had."""
    now = {item.store.location: item.store for item in items}
    seen = {location: store.names() for location, store in now.items()}
    return [
        replace(item, bytes=seen[item.store.location].get(item.name, [item.bytes])[0])
        for item in items
    ]


def _at_most(planned: int, advance: Callable[[int], object]) -> Callable[[int], object]:
    """`advance` as a file of so many bytes in the plan tells it, however long it is by now."""
    left = planned

    def told(count: int) -> None:
        nonlocal left
        part = min(count, left)
        left -= part
        advance(part)

    return told


def _copy(
    item: _Item, destination: Store, there: Fingerprint, advance: Callable[[int], object]
) -> bool:
    """Whether the file had to be copied. Small files change in place, and are compared whole."""
    length = there.get(item.name, [-1])[0]
    grows = not item.name.endswith((".json", ".txt"))
    same = (
        length >= item.bytes
        if grows
        else length == item.bytes
        and not _differ(
            item, _Item(store=destination, name=item.name, bytes=length, rank=item.rank)
        )
    )
    if same:
        advance(item.bytes)
        return False
    item.store.copy_to(item.name, destination, advance=advance)
    return True


def _pack(item: _Item, destination: Store, there: Fingerprint) -> bool:
    """Whether the rank had to be packed."""
    assert item.rank is not None
    name = packed_file(item.rank)
    if name in there and _packed_bytes(destination, name) >= item.bytes:
        return False
    with scratch() as folder:
        path = folder / item.name
        if item.store.directory is not None:
            path = item.store.directory / item.name
        else:
            path.write_bytes(item.store.read(item.name))
        if item.bytes == 0:
            return False
        stream = read_stream(path, "events")
        if stream.rank != item.rank:
            raise DamagedTrace(f"{item}: holds the events of rank {stream.rank}")
        with destination.writing(name) as sink:
            pack(stream, sink)
    return True


def _packed_bytes(store: Store, name: str) -> int:
    try:
        return PackedRank(store, name).bytes
    except (NotATrace, DamagedTrace):
        return -1


def _run_of(item: _Item) -> str:
    """The run that a file of events belongs to, by its own word."""
    if PACKED.fullmatch(item.name):
        packed = PackedRank(item.store, item.name)
        rank, run_id = packed.rank, packed.run_id
    else:
        rank, run_id = _head(item)
    if rank != item.rank:
        raise DamagedTrace(f"{item}: holds the events of rank {rank}")
    return run_id


def _head(item: _Item) -> tuple[int, str]:
    """Rank and run of a stream, from its first message."""
    with item.store.open(item.name) as file:
        try:
            metadata = ipc.open_stream(file).schema.metadata or {}
            rank = int(metadata[b"rankscope.rank"])
            return rank, plain_text(metadata[b"rankscope.run_id"].decode(errors="replace"))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise NotATrace(f"{item}: not an Arrow stream of Rankscope; leave it out") from error


def _notes(found: dict[str, _Item]) -> Sequence[str]:
    notes, recording = [], []
    for name, item in found.items():
        if _is_events(name) and item.bytes == 0:
            notes.append(f"{item}: empty file (the rank died before its first flush)")
        if item.rank is None or name != facts_file(item.rank):
            continue
        if _object(item.store, name).get("ended") is None:
            recording.append(item.rank)
    if recording:
        notes.append(
            f"ranks {compress(sorted(recording))} did not end their traces: they still record, and "
            "gathering again brings the rest, or they were killed"
        )
    return notes


def _differ(one: _Item, other: _Item) -> bool:
    if one.bytes != other.bytes:
        return True
    pieces = zip(one.store.pieces(one.name), other.store.pieces(other.name), strict=False)
    return any(a != b for a, b in pieces)


def _world_size(store: Store, seen: Fingerprint, ranks: Sequence[int]) -> int:
    """By the word of rank 0, else of the first rank that is there; 0 if nobody says."""
    names = [RUN_FILE, *(facts_file(rank) for rank in ranks[:1])]
    for name in names:
        if name in seen:
            said = _object(store, name).get("world_size")
            if isinstance(said, int) and 0 < said <= MAX_RANK + 1:
                return said
    return 0


def _object(store: Store, name: str) -> dict[str, Any]:
    """What a JSON file says; nothing where it is damaged, which opening the run will say."""
    try:
        content = store.read(name)
        found = json.loads(content) if len(content) <= _MOST_JSON else {}
    except (ValueError, RecursionError, FileNotFoundError):
        return {}
    return found if isinstance(found, dict) else {}


def _events_in(seen: Fingerprint) -> dict[int, str]:
    streams = {
        rank: name
        for name in seen
        if (rank := _rank_of(name)) is not None and name == events_file(rank)
    }
    return streams | packed_ranks(seen)


def _is_events(name: str) -> bool:
    rank = _rank_of(name)
    return rank is not None and name in (events_file(rank), packed_file(rank))


def _rank_of(name: str) -> int | None:
    number = name.removeprefix("rank-").partition(".")[0]
    return int(number) if name.startswith("rank-") and number.isdecimal() else None
