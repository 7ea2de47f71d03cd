"""The network's speed from files as the kernel has them; there is no such network here."""

from __future__ import annotations

from pathlib import Path

import pytest

from collectors.live.link_speeds import NetworkSpeed

PEAK = "network.peak/bytes_per_s"


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


ETHERNET = {
    "net/eth0/speed": "25000",
    "net/eth0/operstate": "up",
    "net/eth1/speed": "100000",
    "net/eth1/operstate": "down",
    "net/lo/speed": "-1",
    "net/lo/operstate": "unknown",
}
INFINIBAND = {
    "infiniband/mlx5_0/ports/1/rate": "400 Gb/sec (4X NDR)",
    "infiniband/mlx5_0/ports/1/state": "4: ACTIVE",
    "infiniband/mlx5_1/ports/1/rate": "400 Gb/sec (4X NDR)",
    "infiniband/mlx5_1/ports/1/state": "4: ACTIVE",
    "infiniband/mlx5_2/ports/1/rate": "400 Gb/sec (4X NDR)",
    "infiniband/mlx5_2/ports/1/state": "1: DOWN",
}


@pytest.mark.parametrize(
    ("files", "bytes_per_s"),
    [
        (ETHERNET, 25e9 / 8),
        (ETHERNET | INFINIBAND, 2 * 400e9 / 8),
        (INFINIBAND | {"infiniband/mlx5_0/ports/1/rate": "fast"}, 400e9 / 8),
    ],
)
def test_what_the_network_could_carry(
    tmp_path: Path, files: dict[str, str], bytes_per_s: float
) -> None:
    network = NetworkSpeed(_write(tmp_path, files))
    assert network.sample() == {PEAK: bytes_per_s}
    assert network.sample() == {}, "told once"


def test_a_kernel_that_does_not_tell(tmp_path: Path) -> None:
    assert NetworkSpeed(tmp_path).sample() == {}
    assert NetworkSpeed(_write(tmp_path, {"net/lo/speed": "-1"})).sample() == {}


def test_of_this_machine_it_is_a_number_or_nothing() -> None:
    assert all(value > 0 for value in NetworkSpeed().sample().values())
