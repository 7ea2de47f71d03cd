"""What a process says of itself, also while torch is only half imported."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tracer import environment


def test_a_torch_that_is_still_being_imported_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))

    assert environment.device() == "cpu"
    assert "torch" not in environment.versions()
