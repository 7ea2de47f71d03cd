"""What is measured: the groups of a run, which of them at the same time, and at which sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from tracer.calibration_file import OPS
from tracer.errors import TraceError, UsageError
from tracer.run_files import RunMeta, read_rank_facts, read_run_meta
from tracer.topology import compress

P2P: Final = "p2p"
SIZE_STEP: Final = 4
"""Each size is that many times the one before: five points per thousandfold."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Members:
    """A group of a run: `name` as in its trace, `ranks` sorted."""

    name: str
    dim: str
    ranks: tuple[int, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class Round:
    """Groups of one dimension that share no rank: they run `op` at the same time, as in training.

    For messages these are pairs of a group's neighbours.
    """

    dim: str
    op: str
    groups: tuple[Members, ...]

    def of(self, rank: int) -> Members | None:
        """The group that `rank` is in, if any."""
        return next((group for group in self.groups if rank in group.ranks), None)


def groups_of(run: Path, only: Collection[str] = ()) -> tuple[RunMeta, tuple[Members, ...]]:
    """The run's facts, and its groups of two and more ranks by name: those that its ranks recorded,
    else those of its mesh; of these those named in `only`, if any are.

    Raises:
        UsageError: there is no such run, or it has no group, or not one of `only`.
        TraceError: its files cannot be read.
    """
    try:
        meta = read_run_meta(run)
    except FileNotFoundError as error:
        raise UsageError(f"{run}: no run.json there; name the directory of a run") from error
    found = {group.name: group for group in [*_of_mesh(meta), *_recorded(run, meta.world_size)]}
    groups = [g for g in found.values() if len(g.ranks) > 1 and max(g.ranks) < meta.world_size]
    if not groups:
        raise UsageError(f"{run}: the run has no group of two or more ranks: nothing to measure")
    unknown = sorted(set(only) - {group.name for group in groups})
    if unknown:
        known = ", ".join(sorted(group.name for group in groups))
        raise UsageError(f"{run}: no group {unknown[0]!r} of two or more ranks; there is: {known}")
    groups = [group for group in groups if not only or group.name in only]
    return meta, tuple(sorted(groups, key=lambda group: group.name))


def rounds(groups: Sequence[Members]) -> Iterator[Round]:
    """By dimension, then by op; all groups of a dimension together unless they share ranks.

    Before (groups)        After (rounds of p2p)
    pp:0-3                 0 1 and 2 3, then 1 2
    """
    for dim in sorted({group.dim for group in groups}):
        mine = [group for group in groups if group.dim == dim]
        for op in OPS:
            measured = [pair for group in mine for pair in _pairs(group)] if op == P2P else mine
            for together in _disjoint(measured):
                yield Round(dim=dim, op=op, groups=tuple(together))


def sizes(low: int, high: int) -> tuple[int, ...]:
    """From `low` bytes on, each `SIZE_STEP` times the one before, up to `high`.

    Raises:
        UsageError: there is none.
    """
    if not 0 < low <= high:
        raise UsageError(f"sizes of {low:,} to {high:,} bytes: the first must be over 0, and less")
    found = [low]
    while found[-1] * SIZE_STEP <= high:
        found.append(found[-1] * SIZE_STEP)
    return tuple(found)


def _recorded(run: Path, world_size: int) -> Iterator[Members]:
    for rank in range(world_size):
        try:
            facts = read_rank_facts(run, rank)
        except (OSError, TraceError):
            continue  # Another member knows the same groups.
        for name, group in facts.groups.items():
            yield Members(name=name, dim=group.dim, ranks=tuple(sorted(set(group.ranks))))


def _of_mesh(meta: RunMeta) -> Iterator[Members]:
    """For each dimension the ranks that differ in that dimension alone."""
    if meta.mesh is None:
        return
    for place, dim in enumerate(meta.mesh.names):
        along: dict[tuple[int, ...], list[int]] = {}
        for rank, at in meta.mesh.coordinates.items():
            along.setdefault(at[:place] + at[place + 1 :], []).append(rank)
        for ranks in along.values():
            ranks.sort()
            yield Members(name=f"{dim}:{compress(ranks)}", dim=dim, ranks=tuple(ranks))


def _pairs(group: Members) -> Iterator[Members]:
    for pair in pairwise(group.ranks):
        yield Members(name=group.name, dim=group.dim, ranks=pair)


def _disjoint(groups: Iterable[Members]) -> list[list[Members]]:
    """As few lists as come of putting each group into the first that has none of its ranks."""
    found: list[list[Members]] = []
    for group in groups:
        for together in found:
            if not any(set(group.ranks) & set(other.ranks) for other in together):
                together.append(group)
                break
        else:
            found.append([group])
    return found
