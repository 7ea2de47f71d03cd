"""Make every part of the tracer fail in turn, while two real ranks train.

  python -m tests.reliability.injection [--only PATTERN] [--every N] [--json FILE]

Whatever fails inside the tracer, the training must end with the same bits in its parameters and
the same values from its calls as without any tracer; every hook must be out again, at most one
line be said, and the files stay readable. The exit code is 1 where that is not so.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.reliability import worker
from tests.reliability.exercise import EXERCISES
from tests.reliability.worker import Case, Result

TIMEOUT_S: Final = 60.0
"""A training takes a fraction of a second, the first of its kind some for what it imports, and all
of them longer on a busy machine; a rank that is not through by then never will be."""

START_TIMEOUT_S: Final = 120.0
LATER: Final = 7
"""The second fault of a target comes at this call, or at its last one if it has fewer."""

EXEMPT: Final[dict[str, str]] = {
    r"tracer\.session:Tracer\.(__enter__|__exit__|start|stop|step|span|counter|pause|dump)": (
        "called by the user, with nothing of ours around it; what it calls is made to fail"
    ),
    r"tracer\.spans:Span\.__call__": "called by the user, likewise",
    r"tracer\.directory:Claim\.__del__": "called by the interpreter, which lets nothing out of it",
    r"collectors\.live\.callbacks:LoopRecording\..*": "called by a framework, likewise",
    r"collectors\.live\.modules:RootModules\.(_begins|_ends|_optimizer_stepped)": (
        "called by torch, likewise"
    ),
    r"collectors\.live\.patches:OperatorFunction\.(?!__init__).*": "called by torch, likewise",
    r"collectors\.live\.imports:(_Finder\.find_spec|_Loader\.(?!__init__).*)": (
        "called by the import system, likewise"
    ),
    r"tracer\.(writer:Writer|clocks\.exchange:ClockExchange)\._run": (
        "what a thread runs, likewise"
    ),
    r"tracer\.(session:(_before_fork|_after_fork|_stop_in_child|_of_signals)|signals:_nothing)": (
        "called by the interpreter, likewise"
    ),
    r"tracer\.recorder:Recorder\.fault": "takes the faults; what it calls is made to fail",
    r"tracer\.session:Tracer\.__init__": "raises for wrong use, before recording begins",
    r"tracer\.about:(AboutTheRun\.__init__|_json_copy|_peaks|json.*|datetime.*)": "likewise",
    r"tracer\.json_values:(strict_json|number|json.*)": "likewise, and in a writer that may fail",
    r"tracer\.black_box:Watch\..*": "sets attributes, before recording begins",
    r"tracer\.settings:_black_box": "raises for wrong use, before recording begins",
    r"tracer\.(settings|windows):.*(settle|_positive|_kernels_of|__init__|__post_init__|get).*": (
        "likewise"
    ),
    r"tracer\.directory:(attempt_directory|os\..*)": "before recording begins",
    r"tracer\.locks:_acquire": "an OSError is a directory for UsageError, before recording begins",
    r"tracer\.(recorder:(Recorder|Names)|steps:Steps|topology:Topology)\.__init__": (
        "sets attributes, before recording begins"
    ),
    r"tracer\.(parts:Parts|spans:Spans)\.__init__": "likewise",
    r"tracer\.spans:functools\.wraps\(\)": "copies a name and a text, when a function is decorated",
    r"tracer\.recorder:(threading|itertools)\.(Lock|local|count)\(\)": "in Recorder.__init__",
    r".*:(get_ident|torch\.compiler\.is_compiling)\(\)": (
        "reads a number of the interpreter, or a constant that the compiler folds"
    ),
}
"""Targets that are not made to fail, and why."""


@dataclass(slots=True)
class Report:
    """What was tried and what was found; `broken` is by case."""

    targets: int = 0
    fired: list[str] = field(default_factory=list)
    not_fired: list[str] = field(default_factory=list)
    exempt: list[str] = field(default_factory=list)
    cases: int = 0
    cases_not_fired: list[str] = field(default_factory=list)
    broken: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0


class Pair:
    """Two ranks in processes of their own, started anew when one of them is stuck."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._starts = 0
        self._ranks: list[tuple[Any, Any]] = []

    def __enter__(self) -> Pair:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def ask(self, order: Any) -> list[Any]:
        """The answer of each rank; a line in place of an answer that does not come."""
        for _, pipe in self._ranks:
            pipe.send(order)
        answers = self._answers(TIMEOUT_S)
        if any(isinstance(a, str) or getattr(a, "broken", None) for a in answers):
            self._end()
            self._start()
        return answers

    def close(self) -> list[int | None]:
        """Let the ranks end by themselves; their exit codes."""
        for _, pipe in self._ranks:
            pipe.send(None)
        for process, _ in self._ranks:
            process.join(TIMEOUT_S)
        return [process.exitcode for process, _ in self._ranks]

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._starts += 1
        directory = self._directory / f"pair-{self._starts}"
        directory.mkdir()
        port = _free_port()
        self._ranks = []
        for rank in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=worker.main, args=(rank, port, directory, theirs))
            process.start()
            theirs.close()
            self._ranks.append((process, ours))
        for answer in self._answers(START_TIMEOUT_S):
            if answer != "ready":
                raise RuntimeError(f"a rank did not start: {answer}")

    def _answers(self, timeout: float) -> list[Any]:
        deadline = time.monotonic() + timeout
        answers: list[Any] = []
        for _, pipe in self._ranks:
            try:
                came = pipe.poll(max(0.0, deadline - time.monotonic()))
                answers.append(pipe.recv() if came else f"nothing within {timeout:.0f} s")
            except EOFError:
                answers.append("the process ended")
            if isinstance(answers[-1], Result) and answers[-1].broken:
                deadline = min(deadline, time.monotonic() + 3)  # the other one may wait for it
        return answers

    def _end(self) -> None:
        for process, pipe in self._ranks:
            process.kill()
            process.join()
            pipe.close()


def inject(directory: Path, *, only: str = "", every: int = 1, say: bool = True) -> Report:
    """Run the matrix: every target that is called at all fails at its first and at a later call.

    Of the targets that match `only`, one out of `every`.
    """
    began = time.monotonic()
    report = Report()
    with Pair(directory) as pair:
        for exercise in EXERCISES:  # without a fault, so that what is found below is its doing
            _note(report, Case(exercise=exercise, target=None, at=None), pair)
        where = _where(pair)
        report.targets = len(where)
        pattern = re.compile(only)
        for number, (target, (exercise, called)) in enumerate(where.items(), 1):
            if number % every or not pattern.search(target):
                continue
            if any(re.fullmatch(exempt, target) for exempt in EXEMPT):
                report.exempt.append(target)
                continue
            fired = False
            for case in _cases(target, exercise, called):
                fired |= _note(report, case, pair)
            (report.fired if fired else report.not_fired).append(target)
            if say:
                line = (
                    f"\r{number}/{len(where)} targets, {len(report.broken)} broken  {target:60.60}"
                )
                print(line, end="", file=sys.stderr, flush=True)
        codes = pair.close()
    if codes != [0, 0]:
        report.broken["the end"] = [f"exit codes {codes}"]
    report.seconds = time.monotonic() - began
    return report


def _where(pair: Pair) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each target the first exercise that calls it, and how often on each rank."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for exercise in EXERCISES:
        answers = pair.ask(exercise)
        for answer in answers:
            if not isinstance(answer, dict):
                raise RuntimeError(f"{exercise}: {answer}")
        for target in answers[0]:
            calls = tuple(answer[target] for answer in answers)
            if target not in found or (found[target][1] == (0, 0) and calls > (0, 0)):
                found[target] = exercise, calls
    return found


def _cases(target: str, exercise: str, called: tuple[int, ...]) -> Iterator[Case]:
    """At the first call on both ranks, and at a later one on the rank that calls it more."""
    most = max(called)
    if most > 0:
        yield Case(exercise=exercise, target=target, at=1)
    if most > 1:
        error = "OSError" if len(target) % 2 else "MemoryError"
        rank = 0 if called[0] > called[1] else 1
        at = min(LATER, most)
        yield Case(exercise=exercise, target=target, at=at, error=error, ranks=(rank,))


def _note(report: Report, case: Case, pair: Pair) -> bool:
    """Run the case; whether the fault fired on a rank that was to have it."""
    report.cases += 1
    name = f"{case.target or 'no fault'} at call {case.at}, {case.error}, {case.exercise}"
    answers = pair.ask(case)
    broken = [
        f"rank {rank}: {line}"
        for rank, answer in enumerate(answers)
        for line in ([answer] if isinstance(answer, str) else answer.broken)
    ]
    if broken:
        report.broken[name] = broken
        print(f"BROKEN {name}", *broken, sep="\n    ", file=sys.stderr, flush=True)
    fired = any(isinstance(answer, Result) and answer.fired for answer in answers)
    if case.target is not None and not fired and not broken:
        report.cases_not_fired.append(name)
    return fired or bool(broken)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _show(report: Report) -> None:
    print(f"\n{report.targets} targets, {len(report.fired)} fired in {report.cases} trainings, ")
    print(f"{len(report.exempt)} exempt, {report.seconds:.0f} s")
    by_module = Counter(target.partition(":")[0] for target in report.not_fired)
    for module, count in sorted(by_module.items()):
        names = [t.partition(":")[2] for t in report.not_fired if t.partition(":")[0] == module]
        print(f"  not called here: {module} {count}: {', '.join(names)}")
    for case in report.cases_not_fired:
        print(f"  came to no such call: {case}")
    print(f"{len(report.broken)} broken promises")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="targets that match")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one target out of N")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        report = inject(Path(directory), only=options.only, every=options.every)
    _show(report)
    if options.json:
        fields = {name: getattr(report, name) for name in Report.__slots__}
        options.json.write_text(json.dumps(fields, indent=1) + "\n")
    sys.exit(1 if report.broken else 0)


if __name__ == "__main__":
    main()
