"""A training that torchrun starts again: each attempt is kept, and shown as its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dashboard import open_run
from dashboard.cli.command_line import rankscope
from dashboard.cli.dashboard import start_server
from tests.support.launching import torchrun
from tests.support.reading import facts, rows

_DIES_ONCE = """
import os, signal
import torch
import torch.distributed as dist
# Else gloo finds the addresses of the first attempt's ranks, which are no more (torch 2.13).
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
store = dist.PrefixStore(attempt, dist.TCPStore(*address, is_master=False))
rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    model(torch.ones(2, 4)).sum().backward()
    if attempt == "0" and step == 3 and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
    optimizer.step()
    optimizer.zero_grad()
dist.destroy_process_group()
"""


@pytest.mark.distributed
def test_every_attempt_has_a_directory_and_each_leads_to_the_others(tmp_path: Path) -> None:
    script, run, again = tmp_path / "train.py", tmp_path / "run", tmp_path / "run.restart-1"
    script.write_text(_DIES_ONCE)
    record_with = ("-m", "tracer", "--out", run)
    torchrun(2, "--max-restarts", "1", *record_with, script, fresh=True)

    assert facts(run, 1)["ended"] is None
    assert [facts(again, rank)["ended"] for rank in (0, 1)] == ["closed", "closed"]
    for rank in (0, 1):
        assert [row["step"] for row in rows(again, rank, kind="step")] == [0, 1, 2, 3, 4]
    assert open_run(run).meta.run_id != open_run(again).meta.run_id
    first, second = _report(run), _report(again)
    assert "rank-00001.json: the rank did not end its trace" in first
    assert f"other attempts: {again}" in first
    assert "did not end" not in second
    assert f"other attempts: {run}" in second
    assert _offered(run) == ["run", "run.restart-1"]
    assert _offered(again) == ["run.restart-1", "run"]


def _report(run: Path) -> str:
    done = CliRunner().invoke(rankscope, ["report", str(run)])
    assert done.exit_code == 0
    return " ".join(done.output.split())


def _offered(run: Path) -> list[str]:
    """The choices of the dashboard's list of runs."""
    server, _ = start_server([run])
    try:
        layout = server.app.test_client().get("/_dash-layout").get_json()
    finally:
        server.server_close()
    return [option["props"]["children"] for option in _all(layout, "Option")]


def _all(node: object, kind: str) -> list[dict]:
    if isinstance(node, list):
        return [found for part in node for found in _all(part, kind)]
    if not isinstance(node, dict):
        return []
    mine = [node] if node.get("type") == kind else []
    return mine + _all(node.get("props", {}).get("children"), kind)
