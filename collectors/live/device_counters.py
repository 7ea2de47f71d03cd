"""Counters that are sampled once per flush: memory of the process and of the GPUs, and NVML's.

| counter | what it is |
| --- | --- |
| memory.resident/bytes | memory of this process on the host |
| memory.allocated, .reserved, .peak /bytes | torch's allocator, over this process's GPUs |
| gpu<i>.sm/percent, .memory_controller/percent | share of the last sample in which they were busy |
| gpu<i>.power/W | board power |
| gpu<i>.pcie_tx, .pcie_rx /bytes_per_s | PCIe throughput over 20 ms |
| gpu<i>.nvlink_tx, .nvlink_rx /bytes_per_s | NVLink data over all links, since the last sample |

NVML needs the package nvidia-ml-py (the extra `rankscope[gpu]`); what a card does not have is
left out. What links could carry is in link_speeds.py. Source: NVML API reference,
nvmlDeviceGetUtilizationRates, GetPowerUsage, GetPcieThroughput (KB/s), GetFieldValues
NVLINK_THROUGHPUT_DATA_TX/RX (KiB, cumulative).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from collectors.live.link_speeds import NetworkSpeed, card_speeds
from tracer.recorder import Recorder
from tracer.topology import Topology

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_ALL_LINKS: Final = 0xFFFFFFFF
"""`scopeId` of a field that asks for the sum over all NVLinks."""


class DeviceCounters:
    """Samples memory and, where there are GPUs and NVML, how busy they are."""

    covers = "counters: host and GPU memory, utilization, power, PCIe and NVLink throughput"

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Add the samplers; they run on the writer thread."""
        nvml = Nvml(cuda_in_use, _nvml)
        recorder.samplers += [resident_memory, gpu_memory, nvml.sample, NetworkSpeed().sample]

    def uninstall(self) -> None:
        """Nothing to take out: the samplers end with the recorder."""


def resident_memory() -> dict[str, float]:
    """Memory of this process; empty where Linux does not tell."""
    try:
        # Not through a file of Python's: each of its ten calls waits for the interpreter lock.
        told = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            pages = int(os.read(told, 256).split()[1])
        finally:
            os.close(told)
    except (OSError, ValueError, IndexError):
        return {}
    return {"memory.resident/bytes": float(pages * _PAGE_BYTES)}


def gpu_memory() -> dict[str, float]:
    """Bytes that torch's allocator holds on this process's GPUs, and the most since the start."""
    cuda = cuda_in_use()
    if cuda is None:
        return {}
    devices = range(cuda.device_count())
    return {
        "memory.allocated/bytes": float(sum(cuda.memory_allocated(d) for d in devices)),
        "memory.reserved/bytes": float(sum(cuda.memory_reserved(d) for d in devices)),
        "memory.peak/bytes": float(sum(cuda.max_memory_allocated(d) for d in devices)),
    }


def cuda_in_use() -> Any:
    """`torch.cuda` once the training uses it, else None.

    The writer thread may ask while the main thread is still importing torch: the module is in
    `sys.modules` by then, but its attributes are not there yet.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)
    return cuda if is_initialized is not None and is_initialized() else None


class Nvml:
    """Asks NVML for this process's current GPU; says nothing from the first failure to start on.

    `load` gives the module pynvml or raises ImportError.
    """

    def __init__(self, cuda: Callable[[], Any], load: Callable[[], Any]) -> None:
        self._cuda = cuda
        self._load = load
        self._nvml: Any = None
        self._handles: dict[int, Any] = {}
        self._links: dict[tuple[int, str], tuple[float, float]] = {}
        self._failed = False
        self._are_speeds_told = False

    def sample(self) -> dict[str, float]:
        """One value of each counter that the card has."""
        cuda = self._cuda()
        if cuda is None or self._failed:
            return {}
        if self._nvml is None:
            try:
                self._nvml = self._load()
                self._nvml.nvmlInit()
                device = cuda.current_device()
                self._handles[device] = self._handle(cuda.get_device_properties(device))
            except Exception:  # no package, no driver, a card that NVML does not know
                self._failed = True
                return {}
        found = {
            f"gpu{device}.{name}": value
            for device, handle in self._handles.items()
            for name, value in self._of(device, handle)
        }
        self._are_speeds_told = True
        return found

    def _handle(self, properties: Any) -> Any:
        """By PCI address: CUDA_VISIBLE_DEVICES renumbers the devices of torch, not of NVML."""
        address = (
            f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}"
            f":{properties.pci_device_id:02x}.0"
        )
        return self._nvml.nvmlDeviceGetHandleByPciBusId(address.encode())

    def _of(self, device: int, handle: Any) -> Iterator[tuple[str, float]]:
        nvml = self._nvml
        if not self._are_speeds_told:
            yield from card_speeds(nvml, handle)
        with contextlib.suppress(nvml.NVMLError):
            rates = nvml.nvmlDeviceGetUtilizationRates(handle)
            yield "sm/percent", float(rates.gpu)
            yield "memory_controller/percent", float(rates.memory)
        with contextlib.suppress(nvml.NVMLError):
            yield "power/W", nvml.nvmlDeviceGetPowerUsage(handle) / 1e3
        for name, which in (
            ("pcie_tx/bytes_per_s", nvml.NVML_PCIE_UTIL_TX_BYTES),
            ("pcie_rx/bytes_per_s", nvml.NVML_PCIE_UTIL_RX_BYTES),
        ):
            with contextlib.suppress(nvml.NVMLError):
                yield name, nvml.nvmlDeviceGetPcieThroughput(handle, which) * 1e3
        for name, field in (
            ("nvlink_tx/bytes_per_s", nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX),
            ("nvlink_rx/bytes_per_s", nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX),
        ):
            with contextlib.suppress(nvml.NVMLError):
                yield from self._link_rate(device, handle, name, field)

    def _link_rate(
        self, device: int, handle: Any, name: str, field: int
    ) -> Iterator[tuple[str, float]]:
        (found,) = self._nvml.nvmlDeviceGetFieldValues(handle, [(field, _ALL_LINKS)])
        if found.nvmlReturn != self._nvml.NVML_SUCCESS:
            return
        now, total = time.monotonic(), float(found.value.ullVal) * 1024
        before = self._links.get((device, name))
        self._links[device, name] = now, total
        if before is not None and now > before[0]:
            yield name, (total - before[1]) / (now - before[0])


def _nvml() -> Any:
    import pynvml

    return pynvml
