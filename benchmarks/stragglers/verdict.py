"""What was found of what was injected: precision, recall, and predicted against real cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.stragglers.cases import AMOUNTS, WHERE, Case, all_cases
from dashboard import open_run
from dashboard.analysis.stragglers.stragglers import Straggler, Stragglers, find_stragglers


@dataclass(kw_only=True, frozen=True)
class Judged:
    """A case and what was found in its run."""

    case: Case
    found: Stragglers

    @property
    def hits(self) -> list[Straggler]:
        """The findings that name what was injected: the cause and who it was."""
        return [straggler for straggler in self.found.found if is_right(self.case, straggler)]


def is_right(case: Case, found: Straggler) -> bool:
    """Whether cause and place are those of the injection."""
    if found.cause != case.cause:
        return False
    if case.cause == "slow stage":
        return found.stage == case.stage
    return found.rank == case.ranks[0] and found.src == case.src


def judged(directory: Path) -> list[Judged]:
    """All cases that were recorded there."""
    return [
        Judged(case=case, found=find_stragglers(open_run(directory / case.name)))
        for case in all_cases()
        if (directory / case.name).is_dir()
    ]


def tables(all_judged: Sequence[Judged]) -> Iterator[str]:
    """Markdown: by cause, then what went wrong, then the prices."""
    yield from by_cause(all_judged)
    yield ""
    yield from _wrong(all_judged)
    yield ""
    yield from _prices(all_judged)


def by_cause(all_judged: Sequence[Judged]) -> Iterator[str]:
    """Recall and precision of each cause, and how many clean runs stayed quiet."""
    amounts = " | ".join(f"{100 * amount:.0f} %" for amount in AMOUNTS)
    yield f"| cause | cases | found at {amounts} | recall | findings | right | precision |"
    yield "| --- " * (6 + len(AMOUNTS)) + "|"
    findings = [(one, found) for one in all_judged for found in one.found.found]
    for cause in dict.fromkeys(cause for cause, *_ in WHERE):
        mine = [one for one in all_judged if one.case.cause == cause]
        said = [(one, found) for one, found in findings if found.cause == cause]
        yield _line(cause, mine, said)
    injected = [one for one in all_judged if one.case.cause is not None]
    yield _line("all", injected, findings)
    clean = [one for one in all_judged if one.case.cause is None]
    quiet = sum(not one.found.found for one in clean)
    yield ""
    yield f"Clean runs: {len(clean)}, without any finding: {quiet}."


def _line(name: str, cases: Sequence[Judged], findings: Sequence[tuple[Judged, Straggler]]) -> str:
    by_amount = []
    for amount in AMOUNTS:
        mine = [one for one in cases if one.case.amount == amount]
        hits = sum(bool(one.hits) for one in mine)
        by_amount.append(f"{hits} of {len(mine)}" if mine else "–")
    hit = sum(bool(one.hits) for one in cases)
    right = sum(is_right(one.case, found) for one, found in findings)
    return (
        f"| {name} | {len(cases)} | {' | '.join(by_amount)} | {_ratio(hit, len(cases))} "
        f"| {len(findings)} | {right} | {_ratio(right, len(findings))} |"
    )


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else "–"


def _wrong(all_judged: Sequence[Judged]) -> Iterator[str]:
    """One line for each; none where all is right."""
    yield "Missed or wrong:"
    yield ""
    if all(one.case.cause is None or one.hits for one in all_judged) and all(
        is_right(one.case, found) for one in all_judged for found in one.found.found
    ):
        yield "- nothing"
    for one in all_judged:
        if one.case.cause is not None and not one.hits:
            yield f"- {one.case.name}: not found"
        for found in one.found.found:
            if not is_right(one.case, found):
                cost = f"{found.ms_per_step:.2f} ms per step, {100 * found.share:.1f} %"
                yield f"- {one.case.name}: {found.text} ({cost}, {found.confidence})"


def _prices(all_judged: Sequence[Judged]) -> Iterator[str]:
    """The cost by replay against the step time above that of the clean runs of the layout."""
    clean: dict[str, list[float]] = {}
    for one in all_judged:
        if one.case.cause is None:
            clean.setdefault(one.case.layout, []).append(one.found.step_ns / 1e6)
    yield "| cause | cases | off by, median, ms | largest, ms | of the step, median |"
    yield "| --- " * 5 + "|"
    for cause in dict.fromkeys(cause for cause, *_ in WHERE):
        off, shares = [], []
        for one in all_judged:
            if one.case.cause == cause and one.hits and one.case.layout in clean:
                step = one.found.step_ns / 1e6
                real = step - median(clean[one.case.layout])
                off.append(abs(sum(hit.ms_per_step for hit in one.hits) - real))
                shares.append(off[-1] / step)
        if off:
            yield (
                f"| {cause} | {len(off)} | {median(off):.2f} | {max(off):.2f} "
                f"| {100 * median(shares):.1f} % |"
            )
