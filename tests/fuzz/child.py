"""Use many damaged runs in a process of its own: what crashes, hangs or eats memory dies here.

    python -m tests.fuzz.child bytes --examples 200

Hypothesis draws the examples, the same ones each time unless `--seed` says otherwise. What was
drawn is said on standard error before it is used, so that the last line of a process that died
is the example that ended it. `bombs` uses each file of bombs.py once and watches the memory,
`crowds` each run of crowds.py.
"""

from __future__ import annotations

import argparse
import faulthandler
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.fuzz.bombs import BOMBS
from tests.fuzz.crowds import CROWDS, write_crowd
from tests.fuzz.damage import Damaged, damaged_bytes, damaged_json, exchanged_files, small_run
from tests.fuzz.using import use_all
from tests.fuzz.values import hostile_values
from tracer.schema import events_file

WAYS: Final = {
    "bytes": damaged_bytes,
    "files": exchanged_files,
    "json": damaged_json,
    "values": hostile_values,
}
_ADDRESS_BYTES: Final = 4 << 30
"""The libraries alone take half of it."""
_BOMB_BYTES: Final = 400 << 20
"""What using a bomb may take on top: the 64 MiB that any file may, some copies of them, the pages
of the dashboard. Believed, each bomb takes at least 1 GB or what the address space has."""
_MOST_OF_A_CROWD: Final = 100_000_000
_PROCESSOR_SECONDS: Final = 60
"""For one example, which takes a third of a second. A busy machine does not make it more."""
_SECONDS: Final = 240
"""For one that waits for something that never comes."""


def main() -> None:
    """Use as many examples as asked; the first that fails is shrunk and raised."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=[*WAYS, "bombs", "crowds"])
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args()
    limit_resources()
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)  # the stack, then the end
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = small_run(folder)
        if asked.way == "bombs":
            outcomes = _use_bombs(run, folder)
        elif asked.way == "crowds":
            outcomes = _use_crowds(folder)
        else:
            outcomes = _use_damaged(WAYS[asked.way](run), folder, asked)
    print(f"{asked.way}: {outcomes.total()} examples, {dict(outcomes)}")


def limit_resources() -> None:
    """This process gets no more memory than a damaged file may take, and leaves no core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_BYTES, _ADDRESS_BYTES))


def _use_damaged(
    damage: st.SearchStrategy[Damaged], folder: Path, asked: argparse.Namespace
) -> Counter[str]:
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=asked.examples,
        derandomize=asked.seed is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged=damage, pages=st.booleans())
    def use(damaged: Damaged, pages: bool) -> None:
        with _written(damaged, folder) as path:
            outcomes[use_all(path, pages=pages).partition(":")[0]] += 1

    (use if asked.seed is None else seeded(asked.seed)(use))()
    return outcomes


def _use_bombs(run: Mapping[str, bytes], folder: Path) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    use_all(folder / "run")
    for name, make in BOMBS.items():
        damaged = Damaged({**run, events_file(0): make()}, (name,))
        with _written(damaged, folder) as path:
            before = _memory("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            outcomes[use_all(path).partition(":")[0]] += 1
            grown = _memory("VmHWM") - before
        assert grown < _BOMB_BYTES, f"{name}: took {grown >> 20:,} MB"
    return outcomes


def _use_crowds(folder: Path) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for name in CROWDS:
        path = write_crowd(folder / name, name)
        with within_time(name):
            done = use_all(path, pages=False, most_output=_MOST_OF_A_CROWD)
            outcomes[done] += 1
    return outcomes


@contextmanager
def _written(damaged: Damaged, folder: Path) -> Iterator[Path]:
    """The run on disk, for as long as using it may take."""
    path = damaged.write(folder / "damaged")
    try:
        with within_time(repr(damaged)):
            yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def within_time(what: str) -> Iterator[None]:
    """Ends the process, with the stack that it was in, if this takes too long."""
    print(what[:500], file=sys.stderr)
    signal.setitimer(signal.ITIMER_PROF, _PROCESSOR_SECONDS)
    faulthandler.dump_traceback_later(_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)


def _memory(what: str) -> int:
    """Bytes of this process, by the kernel's name for them."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


if __name__ == "__main__":
    main()
