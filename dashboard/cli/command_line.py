"""`rankscope`: one command per file of this folder, all registered in `COMMANDS`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib import import_module
from typing import Final

import click

from dashboard.cli.without_pandas import without_pandas
from tracer.errors import RankscopeError

BAD_INPUT: Final = 2
_EXPORT: Final = "export"
"""Hands tables to other people's packages, which may want pandas."""

COMMANDS: Final = {
    "run": ("dashboard.cli.run", "Run a training script with the tracer around it."),
    "report": ("dashboard.cli.report", "Say where the step time of RUN went, on which rank."),
    "gather": (
        "dashboard.cli.gather",
        "Join directories with some ranks of a run each; pack them.",
    ),
    "compare": ("dashboard.cli.compare", "Show what changed from run A to run B, in ms per step."),
    "dashboard": ("dashboard.cli.dashboard", "Show recorded runs in the browser."),
    "critical-path": ("dashboard.cli.critical_path", "Sum up what the critical path was spent on."),
    "bandwidth": (
        "dashboard.cli.bandwidth",
        "Say what each link takes, carries, and which are slow.",
    ),
    "calibrate": ("dashboard.cli.calibrate", "Measure what the links of RUN can do."),
    "whatif": ("dashboard.cli.whatif", "Predict the step time if something were otherwise."),
    "layouts": ("dashboard.cli.layouts", "Predict the step for other splits over ranks."),
    "memory": ("dashboard.cli.memory", "Say how much memory each rank took at most, for what."),
    "kernels": ("dashboard.cli.kernels", "Say what each device did, and which kernels took most."),
    "stragglers": (
        "dashboard.cli.stragglers",
        "Find what holds up the steps, and price each cause.",
    ),
    "check": ("dashboard.cli.check", "Verify that what the ranks recorded fits together."),
    "query": ("dashboard.cli.query", "Ask one or several RUNs in SQL."),
    "import": ("dashboard.cli.import_", "Make a run of what another tool recorded."),
    _EXPORT: ("dashboard.cli.export", "Write RUN in a format that other tools read."),
    "metrics": (
        "dashboard.cli.metrics",
        "Print the numbers of the last step, or keep telling them.",
    ),
}
"""Command → the module that defines it, under the module's own name, and what it does, so that the
list of commands loads none of them."""


class _Lazy(click.Group):
    """Imports a command's module only when that command is asked for: Dash takes a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), module.rpartition(".")[2])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (_, does) in COMMANDS.items()])


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


def do_command() -> int:
    """What the command line asks for; our own errors become one line on standard error.

    Returns:
        The exit code.

    Raises:
        KeyboardInterrupt: interrupted.
    """
    try:
        with nullcontext() if sys.argv[1:2] == [_EXPORT] else without_pandas():
            code = rankscope(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as abort:
        raise KeyboardInterrupt from abort
    except RankscopeError as error:
        click.echo(f"rankscope: {error}", err=True)
        return BAD_INPUT
    return code if isinstance(code, int) else 0
