"""Optimizer steps and first forwards, also where a compiler looks on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.reading import facts, rows
from tracer import Tracer


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        # Random weights could all be cut off by the relu: then there is no gradient to step along.
        nn.init.ones_(self.linear.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x)) * 2


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_an_optimizer_is_named_after_its_class_and_lies_in_its_step(tmp_path: Path) -> None:
    model = _Model()
    optimizers = [torch.optim.AdamW(model.parameters()), torch.optim.SGD(model.parameters())]
    with Tracer(tmp_path / "run") as t:
        for _ in range(2):
            model(torch.ones(2, 4)).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
            t.step()

    assert [(r["step"], r["name"]) for r in rows(tmp_path / "run", 0, kind="optimizer")] == [
        (0, "AdamW.step"),
        (0, "SGD.step"),
        (1, "AdamW.step"),
        (1, "SGD.step"),
    ]


def test_an_optimizer_step_that_raises_passes_its_error_on(tmp_path: Path) -> None:
    optimizer = torch.optim.LBFGS(_Model().parameters())
    with Tracer(tmp_path / "run") as t:
        with pytest.raises(TypeError):
            optimizer.step()  # type: ignore[call-arg] - the missing closure is the point
        t.step()

    assert rows(tmp_path / "run", 0, kind="optimizer") == []
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


def test_automatic_steps_of_a_model_whose_blocks_are_compiled(tmp_path: Path) -> None:
    block = _Model()
    block.compile(backend="eager", fullgraph=True)
    model = nn.Sequential(block)
    with Tracer(tmp_path / "run", automatic_steps=True):
        _train(model, torch.optim.SGD(model.parameters()), 3)

    assert [r["step"] for r in rows(tmp_path / "run", 0, kind="step")] == [0, 1, 2]


def test_a_model_and_an_optimizer_compiled_as_a_whole_train_as_without_us(tmp_path: Path) -> None:
    """The model with `fullgraph=True`, which would raise if our hook could not be traced."""
    torch.manual_seed(0)  # with other weights the ReLU may let nothing through
    model = _Model()
    model.compile(backend="eager", fullgraph=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.linear.weight.detach().clone()
    with Tracer(tmp_path / "run", automatic_steps=True) as t:
        model(torch.ones(2, 4)).sum().backward()
        torch.compile(optimizer.step, backend="eager")()

    assert t.recorder.failure is None
    assert not torch.equal(before, model.linear.weight)
    assert rows(tmp_path / "run", 0, kind="step") == []
