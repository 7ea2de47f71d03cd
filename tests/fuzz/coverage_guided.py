"""Coverage-guided fuzzing of the readers with atheris: single files, as bytes.

    python -m tests.fuzz.coverage_guided --what arrows --minutes 5
    python -m tests.fuzz.coverage_guided --what json --minutes 5 --corpus found/

Inputs are the bytes of one file. Those of `arrows` begin with one byte that says which content is
wanted; what is read must be rows that can be shown, or an error of ours. Seeds are the files of a
small run. What libFuzzer finds lies as `crash-…`, `timeout-…` or `oom-…` in the working directory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["tracer", "dashboard.runs"]):
    from dashboard.runs import Recording, open_recording
    from tracer.errors import TraceError
    from tracer.run_files import read_rank_facts, read_run_meta
    from tracer.schema import SCHEMAS, events_file, facts_file
    from tracer.streams import read_stream

from tests.fuzz.damage import small_run

_CONTENTS: Final = tuple(SCHEMAS)
_MEMORY_MB: Final = 2048
_SECONDS_OF_ONE: Final = 20


def fuzz_arrows(folder: Path) -> Callable[[bytes], None]:
    """Reads its input as an `.arrows` file; as a rank's events also within a run."""
    run = folder / "run"

    def read(content: bytes) -> None:
        if not content:
            return
        wanted = _CONTENTS[content[0] % len(_CONTENTS)]
        file = folder / "one.arrows"
        file.write_bytes(content[1:])
        try:
            found = read_stream(file, wanted)
        except TraceError as error:
            _check_names(error, file)
            return
        found.table.to_pylist()
        assert found.table.schema.names == SCHEMAS[wanted].names
        if wanted == "events":
            (run / events_file(0)).write_bytes(content[1:])
            _open(run)

    return read


def fuzz_json(folder: Path) -> Callable[[bytes], None]:
    """Reads its input as `run.json` and as the facts of a rank."""
    run = folder / "run"

    def read(content: bytes) -> None:
        for name, reader in (("run.json", read_run_meta), (facts_file(0), _facts)):
            kept = (run / name).read_bytes()
            (run / name).write_bytes(content)
            try:
                reader(run)
            except TraceError as error:
                _check_names(error, run / name)
            else:
                _open(run)
            finally:
                (run / name).write_bytes(kept)

    return read


def _facts(run: Path) -> object:
    return read_rank_facts(run, 0)


def _open(run: Path) -> None:
    try:
        open_recording(run, Recording).events().to_pylist()
    except TraceError as error:
        _check_names(error, run)


def _check_names(error: TraceError, path: Path) -> None:
    assert str(path) in str(error), str(error)


TARGETS: Final = {"arrows": fuzz_arrows, "json": fuzz_json}


_WORDS: Final = {
    "arrows": ["rankscope.rank", "rankscope.content", "kind", "start", "step"],
    "json": [
        *("null", "true", "NaN", "-1", "1e999", "[]", "{}", "[[", "\\ud800", ": {", ': ""'),
        *('"world_size": ', '"mesh": ', '"shape": ', '"coordinates": ', '"schedule": '),
        *('"plan": ', '"microbatches": ', '"config": ', '"groups": ', '"stages": ', '"ended": '),
    ],
}
"""What libFuzzer may put in beside what it finds by itself."""


def write_seeds(files: dict[str, bytes], what: str, folder: Path) -> None:
    """The files of a run that the target reads, as its inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if what == "json" and name.endswith(".json"):
            (folder / name).write_bytes(content)
        if what == "arrows" and name.endswith(".arrows"):
            kind = name.split(".")[1] if name.count(".") > 1 else "events"
            (folder / name).write_bytes(bytes([_CONTENTS.index(kind)]) + content)


def main() -> None:
    """Fuzz until the time or the number of runs is over; libFuzzer ends the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", choices=TARGETS, default="arrows")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=-1, help="end after so many inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, help="keep interesting inputs here")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.folder is not None:
        _fuzz(asked)
    # libFuzzer leaves by _exit and cleans nothing up, so it works in a process of its own; in
    # memory where possible, since every input is written to a file
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        command = [sys.executable, "-m", "tests.fuzz.coverage_guided", *sys.argv[1:]]
        sys.exit(subprocess.run([*command, "--folder", folder], check=False).returncode)


def _fuzz(asked: argparse.Namespace) -> None:
    corpus, words = asked.corpus or asked.folder / "corpus", asked.folder / "words"
    write_seeds(small_run(asked.folder), asked.what, corpus)
    words.write_text("\n".join(json.dumps(word) for word in _WORDS[asked.what]))
    options = [
        f"-max_total_time={int(asked.minutes * 60)}",
        f"-runs={asked.runs}",
        f"-seed={asked.seed}",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-timeout={_SECONDS_OF_ONE}",
        f"-dict={words}",
        "-max_len=16384",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[asked.what](asked.folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
