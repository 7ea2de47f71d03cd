"""`rankscope`: one command per file of this folder, all registered in `COMMANDS`.

Exit codes: 0 fine, 1 a finding (a gate that failed), 2 bad usage or input, 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

import click

from tracer.errors import RankscopeError

BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
"""As a shell has it; not click's 1, which a gate would take for a finding."""

COMMANDS: Final = {
    "run": "dashboard.cli.run",
    "report": "dashboard.cli.report",
    "gather": "dashboard.cli.gather",
    "compare": "dashboard.cli.compare",
    "dashboard": "dashboard.cli.dashboard",
    "critical-path": "dashboard.cli.critical_path",
    "bandwidth": "dashboard.cli.bandwidth",
    "calibrate": "dashboard.cli.calibrate",
    "whatif": "dashboard.cli.whatif",
    "layouts": "dashboard.cli.layouts",
    "memory": "dashboard.cli.memory",
    "kernels": "dashboard.cli.kernels",
    "stragglers": "dashboard.cli.stragglers",
    "check": "dashboard.cli.check",
    "query": "dashboard.cli.query",
    "import": "dashboard.cli.import_",
    "export": "dashboard.cli.export",
    "metrics": "dashboard.cli.metrics",
}
"""Command → the module that defines it, under the module's own name."""


class _Lazy(click.Group):
    """Imports a command's module only when that command is asked for: Dash takes a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module), module.rpartition(".")[2])
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rankscope")
def rankscope() -> None:
    """Where did my step time go, on which rank, and what would it be worth to fix it?

    \b
    Record:  torchrun --nproc-per-node 8 -m tracer --out runs/a train.py
    Read:    rankscope report runs/a
    See:     rankscope dashboard runs/a
    Compare: rankscope compare runs/a runs/b
    Import:  rankscope import kineto traces/ -o runs/a
    """


def main() -> None:
    """The command line: our own errors become one line on standard error and exit code 2."""
    try:
        code = rankscope(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("rankscope: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except RankscopeError as error:
        click.echo(f"rankscope: {error}", err=True)
        sys.exit(BAD_INPUT)
    sys.exit(code if isinstance(code, int) else 0)
