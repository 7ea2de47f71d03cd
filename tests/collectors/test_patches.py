"""Every attribute that the collectors replace is put back, entry for entry."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import schedules
from torch.distributed.pipelining.stage import _PipelineStageBase

from collectors.live.patches import Patches
from tracer import Tracer


def _operators() -> Iterator[Any]:
    namespace = torch.ops._c10d_functional
    for name in (
        "all_reduce",
        "all_gather_into_tensor",
        "reduce_scatter_tensor",
        "all_to_all_single",
        "broadcast",
        "wait_tensor",
    ):
        packet = getattr(namespace, name)
        yield packet
        yield packet.default


def _everything_that_may_be_replaced() -> dict[tuple[str, str], int]:
    owners = {
        "ProcessGroup": dist.ProcessGroup,
        "Work": dist.Work,
        "DeviceMesh": DeviceMesh,
        "stage": _PipelineStageBase,
        "torch.distributed": dist,
        "optimizer": torch.optim.Optimizer,
        "module": torch.nn.Module,
    }
    owners |= {str(operator): operator for operator in _operators()}
    owners |= {name: value for name, value in vars(schedules).items() if isinstance(value, type)}
    return {
        (owner, name): id(value)
        for owner, holder in owners.items()
        for name, value in vars(holder).items()
    }


def _hooks() -> list[int]:
    modules, optimizers = torch.nn.modules.module, sys.modules["torch.optim.optimizer"]
    return [
        len(modules._global_forward_pre_hooks),
        len(optimizers._global_optimizer_pre_hooks),
        len(optimizers._global_optimizer_post_hooks),
    ]


@pytest.mark.parametrize("automatic", [False, True])
def test_a_tracer_leaves_everything_as_it_was(
    tmp_path: Path, group: dist.ProcessGroup, automatic: bool
) -> None:
    before, hooks_before = _everything_that_may_be_replaced(), _hooks()
    during = before
    with contextlib.suppress(KeyError), Tracer(tmp_path / "run", automatic_steps=automatic):
        during = _everything_that_may_be_replaced()
        dist.all_reduce(torch.ones(2))
        raise KeyError
    changed = {key for key in before if before[key] != during[key]}

    assert ("ProcessGroup", "allreduce") in changed
    assert ("Work", "wait") in changed
    assert ("stage", "forward_one_chunk") in changed
    assert _everything_that_may_be_replaced() == before
    assert _hooks() == hooks_before


class _Base:
    def method(self) -> str:
        return "original"


class _Derived(_Base):
    pass


def _shout(original: Any) -> Any:
    return lambda self: original(self).upper()


def test_an_inherited_attribute_is_removed_again_not_copied_down() -> None:
    patches = Patches()
    patches.replace(_Derived, "method", _shout)
    assert (_Derived().method(), _Base().method()) == ("ORIGINAL", "original")
    patches.restore()

    assert "method" not in vars(_Derived)
    assert _Derived().method() == "original"


def test_what_is_not_there_is_not_invented() -> None:
    patches = Patches()
    patches.replace(_Base, "absent", _shout)
    patches.restore()

    assert not hasattr(_Base, "absent")


def test_what_another_tool_put_over_ours_stays() -> None:
    patches, original = Patches(), vars(_Base)["method"]
    patches.replace(_Base, "method", _shout)
    ours = _Base.method
    _Base.method = theirs = lambda self: ours(self) + "!"  # type: ignore[method-assign]
    patches.restore()
    left = vars(_Base)["method"]
    _Base.method = original  # type: ignore[method-assign]

    assert left is theirs
