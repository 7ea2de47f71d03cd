"""A run as its devices carried it out, for analyses that follow what waits for what.

Where a rank has work on device lanes, its host only queues that work and runs ahead: what the host
waited for says little of the step. Here the streams take the host's place:

* actions and optimizer are those of the device;
* an operation arrives when the stream came to its call, and holds up what the stream held up;
* a step ends when the device is done with its last work of that step;
* what the host did counts where the device had nothing to do, as launching (kind `user`).

Ranks without work on a device stay as they are, but for the waits that follow from what is known
of their backwards (unseen_waits.py); and so do imported runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.intervals import Intervals, complement, intervals
from dashboard.analysis.lanes_of_kinds import lanes_of_kinds, works_on_device
from dashboard.analysis.unseen_waits import ends_are_unknown, unseen_waits
from dashboard.runs.words import have, where
from tracer.schema import COMMUNICATION_KINDS, WORK_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

_LAUNCHING: Final = (*WORK_KINDS, "module", "user", "data")
_EARLIEST: Final = -(1 << 62)


def as_devices_ran(run: Recording) -> Recording:
    """The run as its devices carried it out; the run itself where none did anything.

    Before (rank 0)                              After
    host:main  forward 0-2, step 0-3             host:stream 7  forward 1-11
    device:7   forward 1-11                      host:main      step 0-11
    """
    return run.answer(_view) if run.meta.source is None else run


def rank_as_its_device_ran(run: Recording, rank: int) -> Recording:
    """The same where only that rank is looked at: a run of that rank alone, or the run itself."""
    table = _of_rank(run, rank) if run.meta.source is None else None
    return run if table is None else _with_tables(run, {rank: table})


def differs_on_its_device(run: Recording, rank: int) -> bool:
    """Whether a device did the rank's work, or waits of it may follow from its backwards."""
    if run.meta.source is not None:
        return False
    return works_on_device(run, rank, WORK_KINDS) or ends_are_unknown(run, rank)


def _view(run: Recording, steps: Collection[int]) -> Recording:
    tables = {rank: _of_rank(run, rank) for rank in run.ranks}
    changed = {rank: table for rank, table in tables.items() if table is not None}
    if not changed:
        return run
    return _with_tables(run, {rank: changed.get(rank, run.tables[rank]) for rank in run.ranks})


def _with_tables(run: Recording, tables: Mapping[int, pa.Table]) -> Recording:
    return type(run).recalled(
        path=run.path,
        meta=run.meta,
        facts=run.facts,
        problems=run.problems,
        clock=run.clock,
        begin=run.begin,
        tables=tables,
        event_count=sum(table.num_rows for table in tables.values()),
        steps=run.steps,
        recorded_until=run.recorded_until,
    )


def _of_rank(run: Recording, rank: int) -> pa.Table | None:
    """Its events by start; None where they stay as they are."""
    if not works_on_device(run, rank, WORK_KINDS):
        return _with_unseen_waits(run, rank) if ends_are_unknown(run, rank) else None
    events = run.events(ranks=[rank])
    on_device = where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:"))
    device, host = events.filter(on_device), events.filter(pc.invert(on_device))
    work = device.filter(have(device["kind"], WORK_KINDS))
    lanes = lanes_of_kinds(run, rank)
    streams = {n for kind in WORK_KINDS for n in lanes.get(kind, ()) if n.startswith("device:")}
    waits = device.filter(pc.and_(have(device["kind"], ("wait",)), have(device["lane"], streams)))
    busy = intervals(*_spans(pa.concat_tables([work, waits])))
    parts = [
        _on(work, "host:stream"),
        _on(waits, "host:stream"),
        _arrivals(host, device),
        _host_waits(host, device, busy),
        _steps(host, pa.concat_tables([work, waits])),
        _launching(host, busy),
        host.filter(have(host["kind"], ("marker",))),
    ]
    return _joined(events, parts)


def _with_unseen_waits(run: Recording, rank: int) -> pa.Table | None:
    events = run.events(ranks=[rank])
    waits = unseen_waits(events)
    return _joined(events, [events, waits]) if waits.num_rows else None


def _joined(events: pa.Table, parts: Iterable[pa.Table]) -> pa.Table:
    """The parts by start, with the columns of `events`."""
    joined = pa.concat_tables(_plain(part) for part in parts)
    return joined.sort_by("start").cast(_plain(events.slice(0, 0)).schema).combine_chunks()


def _spans(table: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return table["start"].to_numpy(), table["duration"].to_numpy()


def _plain(table: pa.Table) -> pa.Table:
    """Words as one dictionary each, so that tables can be joined."""
    return table.unify_dictionaries()


def _with(table: pa.Table, **columns: pa.Array | npt.NDArray[np.int64]) -> pa.Table:
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        kind = table.schema.field(name).type
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        table = table.set_column(at, table.schema.field(name), array.cast(kind))
    return table


def _words(table: pa.Table, column: str, words: list[str]) -> pa.Table:
    kind = table.schema.field(column).type
    made = pa.array(words, pa.string()).dictionary_encode()
    return _with(table, **{column: made.cast(kind)})


def _on(table: pa.Table, prefix: str) -> pa.Table:
    lanes = [f"{prefix} {lane.partition(':')[2]}" for lane in _said(table, "lane")]
    return _words(table, "lane", lanes)


def _said(table: pa.Table, column: str) -> list[str]:
    found: list[str] = table[column].cast(pa.string()).to_pylist()
    return found


def _came(device: pa.Table) -> Mapping[int, int]:
    """By correlation, when the stream came to the call."""
    whole = device.filter(have(device["kind"], COMMUNICATION_KINDS))
    whole = whole.filter(pc.is_valid(whole["correlation"]))
    pairs = zip(whole["correlation"].to_pylist(), whole["start"].to_pylist(), strict=True)
    return dict(pairs)


def _arrivals(host: pa.Table, device: pa.Table) -> pa.Table:
    """Calls, at the time when the stream came to them; those of the host alone when it called."""
    calls = host.filter(have(host["kind"], COMMUNICATION_KINDS))
    came = _came(device)
    start, _ = _spans(calls)
    at = np.array([came.get(c, _EARLIEST) for c in calls["correlation"].to_pylist()], np.int64)
    return _with(calls, start=np.where(at > _EARLIEST, at, start), duration=np.zeros_like(start))


def _host_waits(host: pa.Table, device: pa.Table, busy: Intervals) -> pa.Table:
    """What the host waited for that no stream carried out (gloo, barriers): the waits, and calls
    that nobody waits for later. Only the end of each counts, from where the device had no work.
    """
    waits = host.filter(have(host["kind"], ("wait",)))
    calls = host.filter(have(host["kind"], COMMUNICATION_KINDS))
    alone = calls.filter(pc.invert(pc.is_in(calls["correlation"], waits["correlation"].unique())))
    held = pa.concat_tables([_plain(waits), _plain(_words(alone, "kind", ["wait"] * len(alone)))])
    shown = pa.array(list(_came(device)), pa.int64())
    held = held.filter(pc.invert(pc.is_in(held["correlation"], shown)))
    begin, length = _spans(held)
    end = begin + length
    before = np.searchsorted(busy[:, 0], end, side="left")  # busy spans that begin earlier
    done = np.concatenate([[_EARLIEST], busy[:, 1]])[before]
    since = np.maximum(begin, done)
    return _with(held, start=since, duration=end - since).filter(pa.array(since < end))


def _steps(host: pa.Table, done: pa.Table) -> pa.Table:
    """Step windows, each to the end of the device's last work of the step."""
    windows = host.filter(have(host["kind"], ("step",))).sort_by("start")
    start, duration = _spans(windows)
    ends = start + duration
    begin, length = _spans(done)
    last: dict[int, int] = {}
    for step, end in zip(done["step"].to_pylist(), (begin + length).tolist(), strict=True):
        if step is not None:
            last[step] = max(last.get(step, _EARLIEST), end)
    until = np.array(
        [last.get(step, end) for step, end in zip(windows["step"].to_pylist(), ends, strict=True)],
        np.int64,
    )
    until = np.maximum.accumulate(np.maximum(until, start)) if len(until) else until
    follows = np.zeros(len(start), np.bool_)
    follows[1:] = start[1:] == ends[:-1]
    since = np.where(follows, np.concatenate([start[:1], until[:-1]]), start)
    return _with(windows, start=since, duration=until - since)


def _launching(host: pa.Table, busy: Intervals) -> pa.Table:
    """What the host did while the device had nothing to do; work becomes `user`, for it is only
    launched.
    """
    spans = host.filter(have(host["kind"], _LAUNCHING))
    begin, length = _spans(spans)
    end = begin + length
    free = complement(busy, int(begin.min(initial=0)), int(end.max(initial=0)))
    low = np.searchsorted(free[:, 1], begin, side="right")
    high = np.searchsorted(free[:, 0], end, side="left")
    counts = np.maximum(high - low, 0)
    row = np.repeat(np.arange(len(begin)), counts)
    of_free = np.repeat(low, counts) + np.arange(counts.sum())
    of_free -= np.repeat(np.cumsum(counts) - counts, counts)
    found = spans.take(pa.array(row))
    first = np.maximum(begin[row], free[of_free, 0])
    found = _with(found, start=first, duration=np.minimum(end[row], free[of_free, 1]) - first)
    kinds = ["data" if kind == "data" else "user" for kind in _said(found, "kind")]
    found = _words(found, "kind", kinds)
    nothing = pa.nulls(found.num_rows, pa.int32())
    return _with(found, stage=nothing, microbatch=nothing)
