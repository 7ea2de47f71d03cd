"""The tables of `rankscope report`: time, bubbles, bandwidth.

Of more than `MOST_ROWS` ranks or groups: the mean of those that do the same, and the ones furthest
from it, unless all are asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from dashboard.analysis.pipeline.bubble_summary import ratios
from dashboard.analysis.pipeline.bubbles_by_rank import BubblesByRank, mean_by_rank
from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.analysis.time_spent.spent_by_rank import SpentByRank
from dashboard.analysis.whole_run.summary import communication_by_dimension
from dashboard.cli.abridged import (
    Numbers,
    furthest,
    furthest_from,
    is_shorter,
    largest,
    left_out,
    peers_of,
    stages_of,
)
from dashboard.cli.tables import counted, gbps, ms, percent, share, size, table, width_of
from dashboard.run import Run

_PARTS: Final = ("busy_ns", "bubble_ns", "warm_up_ns", "stall_ns", "cool_down_ns")
_BANDWIDTHS: Final = ("algbw_seen", "busbw_seen", "algbw_skew_free", "busbw_skew_free")


def tables_of_time(
    run: Run, accounting: SpentByRank, width: int, *, whole: bool
) -> Iterator[Table | Text]:
    """What each rank spent its steps on, and of that the communication by mesh dimension."""
    ranks, used, spent = _spent(accounting)
    steps = pc.count_distinct(accounting.windows["step"]).as_py()
    names, rows = [str(rank) for rank in ranks], spent
    stages = [stages_of(run, rank) for rank in ranks]
    peers = peers_of(stages)
    few = not whole and is_shorter(len(ranks), peers)
    if few:
        odd = furthest(spent, peers)
        names = [f"{stages[those[0]]}mean of {len(those):,}" for those in peers]
        names += [f"{stages[place]}rank {ranks[place]}" for place in odd]
        rows = np.concatenate([[spent[p].mean(axis=0) for p in peers], spent[odd]])
    yield from _times(names, used, rows, steps, width)
    if few:
        yield left_out(len(odd), len(ranks), "rank", furthest_from(stages))
    by_dimension = communication_by_dimension(accounting)
    if by_dimension.num_rows:
        yield _by_dimension(by_dimension)


def tables_of_bubbles(bubbles: BubblesByRank, *, whole: bool) -> Iterator[Table | Text]:
    """The bubbles of each rank by cause, and their ratios."""
    found = sorted(
        mean_by_rank(bubbles).to_pylist(), key=lambda row: (_natural(row["group"]), row["rank"])
    )
    stages = [row["stages"] for row in found]
    peers = peers_of(stages)
    few = not whole and is_shorter(len(found), peers)
    culprits, rows = _culprits(bubbles), []
    if few:
        numbers = np.array([[row[part] for part in _PARTS] for row in found])
        for places in peers:
            means = numbers[places].mean(axis=0)
            windows = sum(found[place]["window_ns"] for place in places) / len(places)
            said = [f"mean of {len(places):,}", stages[places[0]], "–"]
            rows.append([*said, *map(ms, means), "–", percent(means[1] / windows)])
        odd = furthest(numbers, peers)
        count, found = len(found), [found[place] for place in odd]
    rows += [
        [
            row["group"],
            row["stages"],
            str(row["rank"]),
            *(ms(row[part]) for part in _PARTS),
            culprits.get(row["rank"], "–"),
            percent(row["fraction"]),
        ]
        for row in found
    ]
    columns = ["pipeline", "stage", "rank", "busy", "bubble", "warm-up", "stall", "cool-down"]
    title = "Pipeline bubbles, ms per step (mean)"
    yield table(title, [*columns, "stalls for", "of window"], rows, words=2)
    if few:
        yield left_out(len(odd), count, "rank", furthest_from(stages))
    yield _bubble_ratios(bubbles)


def tables_of_bandwidth(summary: pa.Table, *, whole: bool) -> Iterator[Table | Text]:
    """What the operations of each group got."""
    found = summary.to_pylist()
    peers = peers_of([(row["dim"], row["op"], row["n"]) for row in found])
    few = not whole and is_shorter(len(found), peers)
    if few:
        together = [_together([found[place] for place in places]) for places in peers]
        behind = _behind(found, peers, together)
        count, found = len(found), [*together, *(found[place] for place in behind)]
    rows = [
        [
            row["group"],
            row["op"],
            f"{row['count']:,}" + (f" (+{row['incomplete']})" if row["incomplete"] else ""),
            size(row["bytes_median"]),
            *(gbps(row[name]) for name in _BANDWIDTHS),
            ms(row["skew_ns_mean"]),
        ]
        for row in found
    ]
    columns = ["group", "op", "count", "median\nsize", "algbw", "busbw"]
    title = "Bandwidth, GB/s (1e9 B/s): as seen, then free of arrival skew; mean skew in ms"
    yield table(title, [*columns, "algbw s.f.", "busbw s.f.", "skew"], rows, words=2)
    if few:
        which = "those furthest below what all of their dimension get together"
        yield left_out(len(behind), count, "group", which)


def _times(
    names: Sequence[str], used: Sequence[str], spent: Numbers, steps: int, width: int
) -> Iterator[Table]:
    """Times and shares in one table, or in two where one would be wider than the line."""
    times, shares, both = [], [], []
    for name, (window, *by_category) in zip(names, spent.tolist(), strict=True):
        in_ms = [ms(time / steps) for time in by_category]
        parts = [share(time, window) for time in by_category]
        cells = [f"{time} {part:>5}" for time, part in zip(in_ms, parts, strict=True)]
        per_step, total = ms(window / steps), share(sum(by_category), window)
        times.append([name, per_step, *in_ms])
        shares.append([name, *parts, total])
        both.append([name, per_step, *cells, total])
    of = f"(mean of {counted(steps, 'step')})"
    title = f"Time per step and rank, ms and share of the step {of}"
    one = table(title, ["rank", "step", *used, "sum"], both)
    if width_of(one) <= width:
        yield one
        return
    narrow = [category.replace(":", ":\n") for category in used]
    yield table(f"Time per step and rank, ms {of}", ["rank", "step", *narrow], times)
    yield table(f"Share of the step {of}", ["rank", *narrow, "sum"], shares)


def _spent(accounting: SpentByRank) -> tuple[list[int], list[str], Numbers]:
    """The ranks in order, the categories that occur, and what each rank spent over all chosen
    steps, ns: in all, and on each of them.
    """
    summed = accounting.windows.group_by("rank", use_threads=False).aggregate([("duration", "sum")])
    windows = dict(zip(summed["rank"].to_pylist(), summed["duration_sum"].to_pylist(), strict=True))
    by_category = {
        (row["rank"], row["category"]): row["duration"] for row in accounting.table.to_pylist()
    }
    known = {category for (_, category), time in by_category.items() if time}
    used = [category for category in CATEGORIES if category in known]
    spent = [
        [window, *(by_category.get((rank, category), 0) for category in used)]
        for rank, window in windows.items()
    ]
    return list(windows), used, np.array(spent, np.float64).reshape(-1, 1 + len(used))


def _by_dimension(found: pa.Table) -> Table:
    rows = [
        [
            row["dim"],
            *(ms(row[part]) for part in ("total_ns", "exposed_ns", "overlapped_ns")),
            percent(row["overlap"]),
        ]
        for row in found.to_pylist()
    ]
    columns = ["dimension", "total", "exposed", "overlapped", "overlap"]
    return table("Communication by mesh dimension, ms per step and rank (mean)", columns, rows)


def _culprits(bubbles: BubblesByRank) -> dict[int, str]:
    """By rank, the peer that most of its stalls are for, and how much of them."""
    stalls: dict[int, Counter[int]] = {}
    for row in bubbles.stalls.to_pylist():
        stalls.setdefault(row["rank"], Counter())[row["culprit_rank"]] += row["stall_ns"]
    found = {}
    for rank, by_culprit in stalls.items():
        culprit, most = by_culprit.most_common(1)[0]
        who = "itself" if culprit == rank else f"rank {culprit}"
        if most:
            found[rank] = f"{who} {share(most, by_culprit.total())}"
    return found


def _bubble_ratios(bubbles: BubblesByRank) -> Table:
    measured, bound = ratios(bubbles)
    found = (measured, bound, bubbles.theory)
    rows = [
        [f"bubble {said}", *(percent(getattr(ratio, name, None)) for ratio in found)]
        for said, name in (("of window", "fraction_of_window"), ("over ideal", "over_ideal"))
    ]
    columns = ["ratio", "measured", "plan bound", "theory"]
    return table("Bubble ratios of the pipeline (median of the steps)", columns, rows)


def _together(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Groups of one dimension, size and operation as one row: all bytes over all time.

    Two groups: 100 bytes at 1 GB/s and 100 bytes at 4 GB/s → 200 bytes in 125 ns, 1.6 GB/s
    """
    count = sum(row["count"] for row in rows)
    medians = [row["bytes_median"] for row in rows if row["bytes_median"] is not None]
    skews = [(row["skew_ns_mean"], row["count"]) for row in rows if row["skew_ns_mean"] is not None]
    skewed = sum(number for _, number in skews)
    return {
        "group": f"{rows[0]['dim']}×{len(rows)}",
        "op": rows[0]["op"],
        "count": count,
        "incomplete": sum(row["incomplete"] for row in rows),
        "bytes_median": float(np.median(medians)) if medians else None,
        "skew_ns_mean": sum(s * n for s, n in skews) / skewed if skewed else None,
        **{name: _rate(rows, name) for name in _BANDWIDTHS},
    }


def _rate(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    moved = "bytes_lasting" if name.endswith("skew_free") else "bytes_total"
    known = [(row[moved], row[name]) for row in rows if row[name]]
    time = sum(size / rate for size, rate in known)
    return sum(size for size, _ in known) / time if time else None


def _behind(
    rows: Sequence[dict[str, Any]],
    peers: Sequence[Sequence[int]],
    together: Sequence[dict[str, Any]],
) -> list[int]:
    """The rows whose links are slowest against all of their kind, in order."""
    missing = np.zeros(len(rows))
    for places, all_of_them in zip(peers, together, strict=True):
        for place in places:
            mine, usual = (row["busbw_skew_free"] for row in (rows[place], all_of_them))
            if mine and usual:
                missing[place] = 1 - mine / usual
    return largest(missing)


def _natural(name: str) -> list[tuple[bool, int | str]]:
    """By which names sort as people count: `dp=2` before `dp=10`."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in parts]
