"""`rankscope run -- COMMAND`: record a launch command without changing it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from tracer.errors import UsageError

_LAUNCHERS: Final = ("torchrun", "torch.distributed.run", "torch.distributed.launch")


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run directory.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is there.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(out: Path, overwrite: bool, command: tuple[str, ...]) -> None:
    """Run COMMAND (torchrun … script.py …) with the tracer between launcher and script.

    \b
    Example:
      rankscope run --out runs/a -- torchrun --nproc-per-node 8 train.py --lr 1e-4
    is the same as
      torchrun --nproc-per-node 8 -m tracer --out runs/a train.py --lr 1e-4
    """
    traced = with_tracer(command, out, overwrite=overwrite)
    sys.stdout.flush()
    try:
        os.execvp(traced[0], traced)
    except OSError as error:
        raise UsageError(f"cannot start {traced[0]}: {error.strerror}") from error


def with_tracer(command: tuple[str, ...], out: Path, *, overwrite: bool) -> list[str]:
    """The command with `-m tracer --out OUT` put before its script.

    The script is the first argument that ends in `.py` behind the launcher.

    Raises:
        UsageError: the command names no launcher or no script.
    """
    ours = ["-m", "tracer", "--out", str(out), *(["--overwrite"] if overwrite else [])]
    launched = any(Path(word).name in _LAUNCHERS for word in command[:3])
    if not launched and not Path(command[0]).name.startswith("python"):
        raise UsageError(f"{command[0]}: expected torchrun (or python) and a script")
    for index, word in enumerate(command[1:], start=1):
        if word.endswith(".py"):
            return [*command[:index], *ours, *command[index:]]
    raise UsageError("the command names no script that ends in .py")
