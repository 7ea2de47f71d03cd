"""What the backends of all process groups have counted, those included that were destroyed.

torch forgets a process group when it is destroyed, and its flight recorder, on gloo, never knew
the members. So each group is looked at once more at the moment when it is shut down: on the
thread that does it, without waiting for anything.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch.distributed as dist
from torch.distributed import distributed_c10d

from collectors.flight_entries import Entry
from collectors.live.patches import Patches
from tracer.recorder import Recorder

_ENDINGS: Final = ("shutdown", "abort")
"""Methods of a process group by which `destroy_process_group` and its like end it."""


@dataclass(slots=True)
class Backend:
    """A process group and how many collectives its backend has counted; it lived `until` then."""

    process_group: weakref.ref[dist.ProcessGroup]
    ranks: tuple[int, ...]
    desc: str
    name: str
    before: int
    calls: int
    until: int | None = None
    earlier: int = 0
    """Process groups of the same members before it."""

    @property
    def counts(self) -> bool:
        """Whether its count can be compared: what other backends and mixtures count is unknown."""
        return self.name in ("gloo", "nccl")

    def count(self) -> int:
        """Operations since the recording began; on gloo messages are operations too."""
        group = self.process_group() if self.until is None else None
        if group is not None:
            self.calls = _count(group) or self.calls
        return self.calls - self.before


class Backends:
    """All that there were since `install`; everything but the endings on the writer thread."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._by_name: dict[str, list[Backend]] = {}
        self._ended: deque[tuple[str, Backend]] = deque()
        self._forgotten: Counter[tuple[int, ...]] = Counter()
        self._made: Counter[tuple[int, ...]] = Counter()
        self._patches = Patches()
        self.messages_count: set[tuple[int, ...]] = set()
        """The groups, by members, whose backend counts messages as well."""

    def install(self) -> None:
        """Look at the groups that there are, and at each that ends from here on."""
        self._look(before=_count)
        for method in _ENDINGS:
            self._patches.replace(dist.ProcessGroup, method, self._ending_hook)

    def uninstall(self) -> None:
        """Put the methods back."""
        self._patches.restore()

    def look(self) -> None:
        """Remember each process group while it lives: a dump also lists those that are gone."""
        self._take_endings()
        self._look(before=lambda group: 0)

    def counted(self) -> dict[tuple[int, ...], int]:
        """Operations that the backends have counted, by the members of the group."""
        counted = Counter(self._forgotten)
        for backend in self._all():
            if backend.counts:
                counted[backend.ranks] += backend.count()
        return dict(counted)

    def all_count(self) -> bool:
        """Whether each one's count can be compared."""
        return all(backend.counts for backend in self._all())

    def sizes(self) -> dict[str, int]:
        """Members by the group's name in torch."""
        return {name: len(held[-1].ranks) for name, held in self._by_name.items()}

    def of(self, entry: Entry) -> Backend | None:
        """Who was asked for this operation (`created` by our clock): names are used again."""
        held = self._by_name.get(entry.group_name, [])
        for backend in held:
            if backend.until is None or entry.created <= backend.until:
                return backend
        return held[-1] if held else None

    def forget(self, before: int) -> None:
        """Of the groups that ended before this time (ns) only the counts are still needed."""
        for name, held in list(self._by_name.items()):
            gone = [b for b in held if b.until is not None and b.until < before and _is_gone(b)]
            for backend in gone:
                if backend.counts:
                    self._forgotten[backend.ranks] += backend.count()
                held.remove(backend)
            if not held:
                del self._by_name[name]

    def _all(self) -> Iterator[Backend]:
        for held in self._by_name.values():
            yield from held

    def _look(self, *, before: Callable[[dist.ProcessGroup], int]) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            return
        for group, name in list(distributed_c10d._world.pg_names.items()):
            last = self._by_name.get(name, [])[-1:]
            if last and last[0].process_group() is group:
                continue
            made = _looked_at(group)
            if made is not None:
                made.before = before(group)
                self._add(name, made)

    def _add(self, name: str, made: Backend) -> None:
        held = self._by_name.setdefault(name, [])
        if held and held[-1].until is None:
            held[-1].until = self._recorder.clock()
        made.earlier = self._made[made.ranks]
        self._made[made.ranks] += 1
        held.append(made)
        if made.name == "gloo":
            self.messages_count.add(made.ranks)

    def _take_endings(self) -> None:
        while self._ended:
            name, ended = self._ended.popleft()
            for backend in self._by_name.get(name, ()):
                if backend.process_group == ended.process_group:
                    backend.calls, backend.until = ended.calls, ended.until
                    break
            else:
                self._add(name, ended)

    def _ending_hook(self, original: Any) -> Any:
        recorder = self._recorder

        def ending(group: dist.ProcessGroup, *args: Any, **kwargs: Any) -> Any:
            if recorder.active:
                try:
                    name = distributed_c10d._world.pg_names.get(group)
                    ended = None if name is None else _looked_at(group)
                    if name is not None and ended is not None:
                        ended.until = recorder.clock()
                        self._ended.append((name, ended))
                except Exception as error:
                    recorder.fault(error)
            return original(group, *args, **kwargs)

        return ending


def _looked_at(group: dist.ProcessGroup) -> Backend | None:
    """None where torch has forgotten the group meanwhile, on another thread."""
    members = distributed_c10d._world.pg_group_ranks.get(group)
    backend = distributed_c10d._world.pg_map.get(group)
    if members is None or backend is None:
        return None
    ranks = tuple(sorted(members))
    name = str(backend[0]).lower()
    return Backend(weakref.ref(group), ranks, group.group_desc, name, 0, _count(group))


def _is_gone(backend: Backend) -> bool:
    """Whether torch has forgotten it too, so that it will not be looked at again as a new one."""
    group = backend.process_group()
    return group is None or group not in distributed_c10d._world.pg_names


def _count(group: dist.ProcessGroup) -> int:
    """What the backend has counted; 0 where it does not count, or refuses since it is shut down."""
    with contextlib.suppress(RuntimeError):
        return int(group._get_sequence_number_for_group())  # type: ignore[attr-defined]
    return 0
