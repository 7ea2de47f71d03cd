"""Arrow takes memory from the system while runs are read, and afterwards from where it did."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack

import pyarrow as pa
import pytest

from collectors import memory_pool
from collectors.memory_pool import _VARIABLE, from_the_system


@pytest.mark.parametrize("is_chosen", [False, True])
def test_the_pool_is_set_for_the_block(monkeypatch: pytest.MonkeyPatch, is_chosen: bool) -> None:
    monkeypatch.setattr(memory_pool, "_CHOSEN", is_chosen)
    before = pa.default_memory_pool().backend_name
    inside: list[str] = []

    @from_the_system()
    def read() -> None:
        inside.append(pa.default_memory_pool().backend_name)
        raise OSError("the disk is gone")

    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            read()
    assert inside == [before if is_chosen else "system"] * 2
    assert pa.default_memory_pool().backend_name == before


def test_of_blocks_that_overlap_the_last_one_sets_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_pool, "_CHOSEN", False)
    before = pa.default_memory_pool().backend_name
    first, second = ExitStack(), ExitStack()  # of two threads
    for block in (first, second):
        block.enter_context(from_the_system())
    first.close()
    assert pa.default_memory_pool().backend_name == "system"
    second.close()
    assert pa.default_memory_pool().backend_name == before


_ITS_OWN = pa.supported_memory_backends()[0]


@pytest.mark.parametrize(
    ("first", "chosen", "has"),
    [("os", {}, "system"), ("pyarrow", {}, "its own"), ("os", {_VARIABLE: _ITS_OWN}, "its own")],
)
@pytest.mark.parametrize("reads", ["dashboard.runs", "collectors.importers.kineto"])
def test_arrow_is_loaded_with_the_systems_allocator(
    reads: str, first: str, chosen: dict[str, str], has: str
) -> None:
    code = (
        f"import os, {first}, {reads}, pyarrow as pa\n"
        "print(pa.default_memory_pool().backend_name, pa.supported_memory_backends()[0])\n"
        f"print(os.environ.get({_VARIABLE!r}))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != _VARIABLE}
    said = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env=environment | chosen,
        text=True,
        capture_output=True,
    )
    assert not said.returncode, said.stderr
    has_now, its_own, variable = said.stdout.split()
    assert has_now == (its_own if has == "its own" else has)
    assert variable == str(chosen.get(_VARIABLE))
