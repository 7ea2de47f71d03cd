"""A process group of one process, for what needs a group but no peer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch.distributed as dist


@pytest.fixture
def group() -> Iterator[dist.ProcessGroup]:
    """gloo, one rank, no network."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    default = dist.group.WORLD
    assert default is not None
    yield default
    dist.destroy_process_group()
