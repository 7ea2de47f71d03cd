"""`rankscope check RUN`: does the recording fit together?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from dashboard.analysis.whole_run.integrity import violations
from dashboard.cli.opening import open_run
from dashboard.cli.options import json_option, run_argument
from dashboard.cli.tables import counted

FINDING: Final = 1


@click.command()
@run_argument
@json_option
def check(path: Path | str, as_json: bool) -> None:
    """Verify that what the ranks of RUN recorded fits together.

    Files and drops, step windows, recorded actions against the schedule's plan, sends against
    receives, the same collectives on all members of each group, nothing received before it was
    sent. Exits with 1 if anything does not fit.

    A job that hung is explained by the collective at which its ranks parted: group, number,
    operation, the ranks that arrived and those that did not.
    """
    run = open_run(path)
    found = violations(run)
    if as_json:
        click.echo(json.dumps([violation.to_json() for violation in found], indent=1))
    else:
        for violation in found:
            where = "run" if violation.rank is None else f"rank {violation.rank}"
            click.echo(f"{where}: {violation.check}: {violation.text}")
        said = counted(len(found), "finding") if found else "no findings"
        click.echo(f"{run.name}: {said} in {counted(len(run.ranks), 'rank')}")
    sys.exit(FINDING if found else 0)
