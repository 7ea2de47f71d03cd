"""`rankscope gather SRC … DEST`: join what the hosts of one run recorded on their own disks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from dashboard.cli.options import RunLocation, json_option
from dashboard.cli.progress import bytes_progress
from dashboard.runs.gather import Gathered, survey
from dashboard.runs.gather import gather as gather_runs
from dashboard.runs.stores import Store, store_at
from tracer.errors import UsageError
from tracer.schema import RUN_FILE
from tracer.topology import compress

FINDING: Final = 1


@click.command()
@click.argument("places", metavar="SRC [SRC …] DEST", nargs=-1, type=RunLocation())
@click.option(
    "--pack",
    "packed",
    is_flag=True,
    help="Write events as Parquet, of which commands fetch only the columns and steps that they "
    "need: for object stores, and for reading on a cluster.",
)
@click.option("--all", "all_ranks", is_flag=True, help="Exit with 1 if ranks are still missing.")
@json_option
def gather(places: Sequence[Path | str], packed: bool, all_ranks: bool, as_json: bool) -> None:
    """Join directories with some ranks of one run each into DEST: a directory, or an address on an
    object store.

    For clusters without a shared file system: each host records on its own disk, and gathers from
    there when the training is over. Sources stay as they are. What is in DEST already is not
    copied again, so an interrupted gather goes on where it was, and each host may bring its own
    ranks. Directories of different runs are refused.

    \b
    Examples:
      rankscope gather /scratch/run s3://bucket/run --pack     on every host
      rankscope gather node1/run node2/run runs/a              what was copied here by hand
      rankscope gather runs/a s3://bucket/a --pack --all       fails if ranks are missing
    """
    if len(places) < 2:
        raise UsageError("gather needs at least one source and a destination: gather SRC … DEST")
    sources, destination = [store_at(place) for place in places[:-1]], store_at(places[-1])
    plan = survey(sources, destination)
    for note in plan.notes:
        click.echo(f"! {note}", err=True)
    with bytes_progress(f"Gathering run {plan.run_id}", plan.bytes) as advance:
        found = gather_runs(plan, destination, packed=packed, advance=advance)
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        _print(found, destination)
    is_complete = bool(found.world_size) and not found.missing
    sys.exit(FINDING if all_ranks and not is_complete else 0)


def _print(found: Gathered, destination: Store) -> None:
    of = f" of {found.world_size:,}" if found.world_size else ""
    click.echo(
        f"{destination}: {len(found.ranks):,}{of} ranks of run {found.run_id}; "
        f"{found.copied:,} files copied, {found.kept:,} were there already"
    )
    if found.missing:
        click.echo(f"missing: ranks {compress(found.missing)}; gather them from their hosts")
    if not found.world_size:
        click.echo(
            f"how many ranks the run has is not known: {RUN_FILE} is missing (rank 0 has it)"
        )
    elif not found.missing:
        click.echo(f"complete: rankscope report {destination}")
