"""Forward and backward of loops without a schedule: each once, whoever looks on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.support.reading import facts, rows
from tracer import Tracer

STEPS = 6
"""More than are watched closely, so that both ways of recording are seen."""


class _Block(nn.Module):
    """Torch compiles no container of its own as a whole, so this is one of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(x))


class _Checkpointed(nn.Module):
    """Runs its layers again in the backward: that is no forward of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        done: torch.Tensor = checkpoint(self.layers, x, use_reentrant=False)
        return done


def _train(*parts: nn.Module) -> list[torch.Tensor]:
    parameters = [p for part in parts for p in part.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(STEPS):
        x = torch.ones(2, 4)
        for part in parts:
            x = part(x)
        x.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return parameters


def _seen(run: Path, kind: str) -> list[tuple[int, str]]:
    return [(row["step"], row["name"]) for row in rows(run, 0, kind=kind)]


def _models(kind: str) -> list[nn.Module]:
    torch.manual_seed(0)
    if kind == "two parts":
        return [nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.Tanh()), nn.Linear(4, 4)]
    if kind == "checkpointed":
        return [_Checkpointed()]
    model: nn.Module = _Block() if "compiled" in kind else nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    if kind == "blocks compiled":
        block = _Block()
        block.compile(backend="eager", fullgraph=True)
        model = nn.Sequential(block, nn.Linear(4, 4))
    elif kind == "compiled in place":
        model.compile(backend="eager", fullgraph=True)
    elif kind == "compiled":
        return [torch.compile(model, backend="eager", fullgraph=True)]  # type: ignore[list-item]
    return [model]


FORWARDS = {
    "plain": ["Sequential"],
    "two parts": ["Sequential", "Linear"],
    "checkpointed": ["_Checkpointed"],
    "blocks compiled": ["Sequential"],
}


@pytest.mark.parametrize("kind", FORWARDS)
def test_each_forward_and_backward_is_recorded_once(tmp_path: Path, kind: str) -> None:
    torch._dynamo.reset()
    bare = _train(*_models(kind))
    torch._dynamo.reset()
    with Tracer(tmp_path / "run", automatic_steps=True):
        traced = _train(*_models(kind))

    assert _seen(tmp_path / "run", "forward") == [
        (step, name) for step in range(STEPS) for name in FORWARDS[kind]
    ]
    assert _seen(tmp_path / "run", "backward") == [(step, "backward") for step in range(STEPS)]
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    assert all(torch.equal(a, b) for a, b in zip(bare, traced, strict=True))


@pytest.mark.parametrize("kind", ["compiled", "compiled in place"])
def test_a_model_compiled_as_a_whole_trains_as_without_us(tmp_path: Path, kind: str) -> None:
    torch._dynamo.reset()
    bare = _train(*_models(kind))
    torch._dynamo.reset()
    with Tracer(tmp_path / "run"):
        traced = _train(*_models(kind))
    torch._dynamo.reset()

    assert len(_seen(tmp_path / "run", "backward")) == STEPS
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    assert all(torch.equal(a, b) for a, b in zip(bare, traced, strict=True))


def test_a_forward_that_raises_passes_its_error_on_and_the_next_one_is_recorded(
    tmp_path: Path,
) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with Tracer(tmp_path / "run"):
        for _ in range(2):
            with pytest.raises(RuntimeError):
                model(torch.ones(2, 3))
        model(torch.ones(2, 4))

    assert len(_seen(tmp_path / "run", "forward")) == 3


def test_a_model_can_be_saved_while_it_is_recorded_and_is_as_before_after_it(
    tmp_path: Path,
) -> None:
    before: Any = dict(vars(nn.Sequential)), torch.autograd.backward
    model = nn.Sequential(nn.Linear(4, 4))
    with Tracer(tmp_path / "run"):
        _train(model)
        torch.save(model, io.BytesIO())
        assert not model._forward_hooks
        assert not model._forward_pre_hooks
        assert "__call__" in vars(nn.Sequential)

    assert (dict(vars(nn.Sequential)), torch.autograd.backward) == before
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks
