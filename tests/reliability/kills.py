"""Kill ranks at random instants, and see what is left of their run.

    python -m tests.reliability.kills --trials 200 --ranks 4 --seed 1

In half of the trials one rank is killed with SIGKILL, in the others all are; the instant is any
between the start of the processes and their end. Promised is, of every trial:

- every file opens, except of a rank that was killed before it recorded anything
- what had been recorded when a completed flush began is in the file, so that at most the last
  flush interval and the time of a flush are missing
- `rankscope report` and `rankscope check` run on what is there, and the report names the ranks
  that died and no other (of those with a file, where all died before anyone said how many they are)
- a rank that was not killed ends its trace, and the tracer gives no warning

The last line is JSON; the exit code is 1 if a promise was broken or Ctrl-C ended the trials.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner, Result
from rich.progress import track

from dashboard import open_run
from dashboard.cli.command_line import rankscope
from tests.reliability.training import FAILED, FLUSH_S, Log, train
from tracer.errors import TraceError
from tracer.run_files import read_rank_facts

PATIENCE_S: Final = 60.0
"""For the ranks that are left to end by themselves."""

_STEPS_BY_RANKS: Final = 400
"""Steps times ranks: about a second of training on two cores."""

_FLUSH_NS: Final = int(FLUSH_S * 1e9)
_NAMED: Final = re.compile(r"rank-(\d{5})[.\w]*: ")


@dataclass(kw_only=True, slots=True)
class Trial:
    """One group of processes, some of them killed, and what was found of their run."""

    number: int
    ranks: int
    directory: Path
    killed: dict[int, int] = field(default_factory=dict)
    """Rank → when it was killed (monotonic ns); without those that were over by then."""
    unopened: int = 0
    missing_ns: list[int] = field(default_factory=list)
    """Of each killed rank that recorded: how long before the kill the oldest step was over that
    is not in the file; 0 if all are there."""
    recorded_nothing: bool = False
    broken: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.directory / "run"

    def log(self, rank: int) -> Log:
        """What this rank says that it did."""
        return Log(self.directory / f"log-{rank}")


def trials(count: int, *, ranks: int, seed: int, directory: Path) -> Iterator[Trial]:
    """Trial by trial; the directory of one with a broken promise stays where it is."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.reliability.training"])
    chance = random.Random(seed)
    duration_s = _time_undisturbed(context, ranks, directory)
    for number in range(count):
        trial = Trial(number=number, ranks=ranks, directory=directory / str(number))
        trial.directory.mkdir()
        victims = [chance.randrange(ranks)] if number % 2 else list(range(ranks))
        _run_and_kill(context, trial, victims, chance.uniform(0, duration_s))
        _judge(trial)
        if not trial.broken:
            shutil.rmtree(trial.directory)
        yield trial


def figures(done: Sequence[Trial]) -> dict[str, Any]:
    """What the trials came to, times in ms."""
    late = sorted(missing for trial in done for missing in trial.missing_ns)
    return {
        "trials": len(done),
        "killed_ranks": sum(len(trial.killed) for trial in done),
        "trials_over_before_the_kill": sum(not trial.killed for trial in done),
        "trials_killed_before_anything_was_recorded": sum(t.recorded_nothing for t in done),
        "files_unopened": sum(trial.unopened for trial in done),
        "flush_interval_ms": FLUSH_S * 1e3,
        "missing_ms_median": statistics.median(late) / 1e6 if late else None,
        "missing_ms_most": max(late) / 1e6 if late else None,
        "killed_ranks_that_recorded": len(late),
        "killed_ranks_that_miss_more_than_the_interval": sum(ns > _FLUSH_NS for ns in late),
        "broken_promises": [f"trial {t.number}: {said}" for t in done for said in t.broken],
    }


def _time_undisturbed(context: ForkServerContext, ranks: int, directory: Path) -> float:
    """How long the training takes; the first one also starts the fork server."""
    taken = 0.0
    for attempt in ("warm-up", "undisturbed"):
        trial = Trial(number=-1, ranks=ranks, directory=directory / attempt)
        trial.directory.mkdir()
        begun = time.monotonic()
        codes = _end(_start(context, trial))
        taken = time.monotonic() - begun
        if any(codes):
            said = "".join(path.read_text() for path in trial.directory.glob("stderr-*"))
            raise SystemExit(f"the training fails without a kill (exit codes {codes})\n{said}")
    return taken


def _run_and_kill(
    context: ForkServerContext, trial: Trial, victims: Sequence[int], after_s: float
) -> None:
    begun = time.monotonic()
    killed = {}
    processes = _start(context, trial)
    try:
        time.sleep(max(0.0, begun + after_s - time.monotonic()))
        for rank in victims:
            killed[rank] = time.monotonic_ns()
            processes[rank].kill()
        codes = _end(processes)
    except KeyboardInterrupt:
        _kill_all(processes)
        raise
    trial.killed = {rank: at for rank, at in killed.items() if codes[rank] == -signal.SIGKILL}
    for rank, code in enumerate(codes):
        if rank not in trial.killed and code not in (0, FAILED):
            trial.broken.append(f"rank {rank} was not killed and ended with {code}")


def _start(context: ForkServerContext, trial: Trial) -> list[ForkServerProcess]:
    arguments = (trial.ranks, trial.directory, _STEPS_BY_RANKS // trial.ranks)
    started = []
    for rank in range(trial.ranks):
        process = context.Process(target=train, args=(rank, *arguments), daemon=True)
        process.start()
        started.append(process)
    return started


def _end(processes: Sequence[ForkServerProcess]) -> list[int | None]:
    """Exit codes; None of a process that had to be killed because it hung."""
    deadline = time.monotonic() + PATIENCE_S
    codes: list[int | None] = []
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        codes.append(process.exitcode)
    _kill_all(processes)
    return codes


def _kill_all(processes: Sequence[ForkServerProcess]) -> None:
    for process in processes:
        process.kill()
        process.join()


def _judge(trial: Trial) -> None:
    phases = [_phase(trial, rank) for rank in range(trial.ranks)]
    closed = [_closed(trial, rank) for rank in range(trial.ranks)]
    _judge_survivors(trial, closed)
    try:
        run = open_run(trial.run)
    except TraceError as error:
        trial.recorded_nothing = not any(phases)
        if any(phases):
            trial.unopened += sum(phase > 0 for phase in phases)
            trial.broken.append(f"does not open: {error}")
        return
    for rank, phase in enumerate(phases):
        if phase and rank not in run.ranks:
            trial.unopened += 1
            trial.broken.append(f"the events of rank {rank} do not open")
    events = run.events(kinds=["step"], columns=["step"]).to_pydict()
    for rank in trial.killed:
        steps = {s for s, r in zip(events["step"], events["rank"], strict=True) if r == rank}
        _judge_missing(trial, rank, steps)
    unended = {rank for rank in range(trial.ranks) if not closed[rank]}
    _judge_commands(trial, unended)


def _phase(trial: Trial, rank: int) -> int:
    path = trial.directory / f"log-{rank}"
    return trial.log(rank).phase if path.exists() and path.stat().st_size else 0


def _closed(trial: Trial, rank: int) -> bool:
    try:
        return read_rank_facts(trial.run, rank).ended == "closed"
    except (TraceError, OSError):
        return False


def _judge_survivors(trial: Trial, closed: Sequence[bool]) -> None:
    for rank in range(trial.ranks):
        if rank not in trial.killed and not closed[rank]:
            trial.broken.append(f"rank {rank} was not killed and its trace has no end")
        said = trial.directory / f"stderr-{rank}.txt"
        if said.exists() and "rankscope" in said.read_text():
            trial.broken.append(f"rank {rank} warns: {said.read_text().strip()}")


def _judge_missing(trial: Trial, rank: int, recorded: set[int]) -> None:
    """Compare the steps in the file with those that the rank says to have done."""
    if not _phase(trial, rank):
        return
    killed, log = trial.killed[rank], trial.log(rank)
    missing = [end for step, end in log.step_ends.items() if step not in recorded]
    trial.missing_ns.append(max(0, killed - min(missing)) if missing else 0)
    begins = list(log.flush_begins.values())
    if len(begins) > 1 and missing and min(missing) < begins[-2]:
        late = (begins[-2] - min(missing)) / 1e6
        trial.broken.append(f"rank {rank} misses what was there {late:,.1f} ms before a flush")


def _judge_commands(trial: Trial, unended: set[int]) -> None:
    reported = _call("report", trial.run)
    checked = _call("check", trial.run)
    if reported.exit_code != 0:
        trial.broken.append(f"report ends with {reported.exit_code}: {reported.exception!r}")
    if checked.exit_code not in (0, 1):
        trial.broken.append(f"check ends with {checked.exit_code}: {checked.exception!r}")
    named = {int(number) for number in _NAMED.findall(reported.output)}
    if "world size are unknown" in reported.output:
        unended &= named  # nobody lived to say how many there were
    if named != unended:
        trial.broken.append(f"the report names {sorted(named)}, wanted {sorted(unended)}")


def _call(command: str, run: Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(rankscope, [command, str(run)])


def main() -> None:
    """Parse the arguments, run the trials, print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kills-"))
    done: list[Trial] = []
    started = trials(options.trials, ranks=options.ranks, seed=options.seed, directory=directory)
    try:
        for trial in track(started, "kills", total=options.trials):
            done.append(trial)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    found = figures(done)
    if found["broken_promises"]:
        print(f"what is left of broken trials: {directory}", file=sys.stderr)
    else:
        shutil.rmtree(directory)
    print(json.dumps(found))
    sys.exit(bool(found["broken_promises"]) or len(done) < options.trials)


if __name__ == "__main__":
    main()
