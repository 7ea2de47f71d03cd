"""What the links of this process could carry: NVLink and PCIe of its GPU, the host's network.

| counter | what it is, of one direction |
| --- | --- |
| gpu<i>.nvlink_peak/bytes_per_s | all active NVLinks of the card |
| gpu<i>.pcie_peak/bytes_per_s | PCIe at the most lanes and the newest generation of card and slot |
| network.peak/bytes_per_s | the host's active InfiniBand or RoCE ports; without any, its Ethernet |

They do not change, and are sampled once. Sources: NVML API reference (field
NVLINK_SPEED_MBPS_COMMON is the speed of one active link in MB/s, NVLINK_LINK_COUNT their number);
PCI Express Base Specification (transfer rates and line codes); Linux kernel,
Documentation/ABI/stable/sysfs-class-infiniband and testing/sysfs-class-net.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_BITS: Final = 8
_PCIE_LANE: Final = {
    1: 2.5e9 * 8 / 10 / _BITS,
    2: 5e9 * 8 / 10 / _BITS,
    3: 8e9 * 128 / 130 / _BITS,
    4: 16e9 * 128 / 130 / _BITS,
    5: 32e9 * 128 / 130 / _BITS,
    6: 64e9 * 242 / 256 / _BITS,
}
"""Bytes per second of one lane by generation: transfer rate times the line code's payload."""


def card_speeds(nvml: Any, handle: Any) -> Iterator[tuple[str, float]]:
    """Counters of one card, without what it does not have."""
    with contextlib.suppress(nvml.NVMLError):
        fields = [nvml.NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON, nvml.NVML_FI_DEV_NVLINK_LINK_COUNT]
        speed, links = nvml.nvmlDeviceGetFieldValues(handle, fields)
        if speed.nvmlReturn == links.nvmlReturn == nvml.NVML_SUCCESS:
            total = float(speed.value.uiVal) * 1e6 * float(links.value.uiVal)
            if total:
                yield "nvlink_peak/bytes_per_s", total
    with contextlib.suppress(nvml.NVMLError, KeyError):
        lane = _PCIE_LANE[nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)]
        yield "pcie_peak/bytes_per_s", lane * nvml.nvmlDeviceGetMaxPcieLinkWidth(handle)


class NetworkSpeed:
    """Says once what the host's network can carry; `root` is /sys/class."""

    def __init__(self, root: Path = Path("/sys/class")) -> None:
        self._root = root
        self._is_told = False

    def sample(self) -> dict[str, float]:
        """The counter, at the first call and where the kernel tells."""
        if self._is_told:
            return {}
        self._is_told = True
        total = sum(self._infiniband()) or max(self._ethernet(), default=0.0)
        return {"network.peak/bytes_per_s": total} if total else {}

    def _infiniband(self) -> Iterator[float]:
        """Of each active port; `rate` is like `400 Gb/sec (4X NDR)`."""
        for port in sorted(self._root.glob("infiniband/*/ports/*")):
            if "ACTIVE" in _text(port / "state"):
                words = _text(port / "rate").split()
                with contextlib.suppress(ValueError, IndexError):
                    yield float(words[0]) * 1e9 / _BITS

    def _ethernet(self) -> Iterator[float]:
        """Of each interface that is up and has a speed, which is in Mb/s and -1 if unknown."""
        for interface in sorted(self._root.glob("net/*")):
            with contextlib.suppress(ValueError):
                speed = float(_text(interface / "speed"))
                if _text(interface / "operstate") == "up" and speed > 0:
                    yield speed * 1e6 / _BITS


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
