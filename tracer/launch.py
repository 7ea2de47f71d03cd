"""`python -m tracer --out RUN SCRIPT ARGS`: record a script that knows nothing of us."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tracer.errors import UsageError
from tracer.main_module import run_module, run_script
from tracer.session import Tracer

_DESCRIPTION = """\
Record a training script without changing it. Start it as always, with `-m tracer --out RUN`
before the script:

  torchrun --nproc-per-node 8 -m tracer --out runs/a train.py --lr 1e-4

Every rank writes its own files into RUN while training runs. A step ends where the first
forward work after an optimizer step begins. Then:

  rankscope report runs/a        where the step time went
  rankscope dashboard runs/a     the same in a browser
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse our own options, then run the script as `__main__` inside a `Tracer`."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.script:
        parser.error("no script given; example: python -m tracer --out runs/a train.py")
    if not options.module and not Path(options.script[0]).exists():
        parser.error(f"no such script: {options.script[0]} (for a module put -m before it)")
    try:
        tracer = Tracer(
            options.out,
            automatic_steps=True,
            overwrite=options.overwrite,
            flush_interval_s=options.flush_interval,
            every=options.every,
            keep_last=options.keep_last,
            slow_step_s=options.slow_step,
            hang_s=options.hang,
            config={"script": Path(options.script[0]).name, "arguments": options.script[1:]},
        )
    except UsageError as error:
        print(f"rankscope: {error}", file=sys.stderr)
        sys.exit(2)
    sys.argv = options.script
    with tracer:
        run = run_module if options.module else run_script
        run(options.script[0])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tracer",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, metavar="RUN", help="the run directory to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that is there")
    parser.add_argument(
        "--flush-interval",
        type=float,
        metavar="S",
        help="seconds of events that a killed process may lose (default 1)",
    )
    parser.add_argument(
        "--every", type=int, metavar="N", help="record one step out of N (default: all)"
    )
    parser.add_argument(
        "--keep-last",
        type=int,
        metavar="N",
        help="be a black box: hold the last N steps in memory, and write them only when a step is "
        "slow, nothing goes on, SIGUSR1 or SIGTERM comes, or an exception ends the script",
    )
    parser.add_argument(
        "--slow-step", type=float, metavar="S", help="with --keep-last: a step of over S seconds"
    )
    parser.add_argument(
        "--hang",
        type=float,
        metavar="S",
        help="with --keep-last: no event for S seconds (default 120)",
    )
    parser.add_argument("-m", "--module", action="store_true", help="SCRIPT is a module name")
    parser.add_argument(
        "script",
        nargs=argparse.REMAINDER,
        metavar="SCRIPT ARGS",
        help="the training script and its own arguments",
    )
    return parser
