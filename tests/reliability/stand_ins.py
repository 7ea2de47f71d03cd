"""What the exercises need and a CPU does not have: a device, a card, a module to wait for."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from collectors.live.device_counters import Nvml
from collectors.live.device_lanes import DeviceLanes, Devices, hook_captures
from collectors.live.imports import Imports
from tracer import Kind, Recorder
from tracer.topology import Topology

WAITED_FOR: Final = "rankscope_waited_for"
"""A module that is imported while the training runs."""


class NoTracer:
    """What the training calls when nothing records."""

    def span(self, name: Any, *, kind: Kind = Kind.USER) -> Any:
        return nullcontext_or_decorator() if isinstance(name, str) else name

    def counter(self, name: str, value: float) -> None: ...

    def step(self) -> None: ...

    def dump(self, reason: str) -> None: ...

    def pause(self) -> Any:
        return nullcontext()


class nullcontext_or_decorator(nullcontext):  # noqa: N801 - stands beside nullcontext
    def __call__(self, function: Any) -> Any:
        return function


class _StepHook:
    """Something that wants to know of each step, as kernel windows do."""

    covers = "steps"

    def install(self, recorder: Recorder, topology: Topology) -> None:
        recorder.on_step.append(lambda step: recorder.count("seen", step))

    def uninstall(self) -> None: ...


class _WaitsForAModule:
    """Waits for a module that the training imports, as the collectors of frameworks do."""

    covers = "imports"

    def install(self, recorder: Recorder, topology: Topology) -> None:
        self._imports = Imports(recorder.fault)
        self._imports.when_imported(WAITED_FOR, self._imported)

    def uninstall(self) -> None:
        self._imports.restore()

    def _imported(self, module: ModuleType) -> None:
        assert module.imported


class _Device(DeviceLanes):
    """Device lanes over a device that has always done its work already."""

    def install(self, recorder: Recorder, topology: Topology) -> None:
        self._recorder = recorder
        devices = Devices(recorder, _Cuda())
        recorder.device = devices
        recorder.on_flush.append(devices.resolve)
        recorder.on_close.append(devices.resolve_last)
        recorder.samplers.append(devices.counters)
        hook_captures(self._patches, recorder, Graph)


class Graph:
    """Stands for `torch.cuda.CUDAGraph`."""

    def capture_begin(self) -> None: ...

    def capture_end(self) -> None: ...


class _Cuda:
    """Stands for `torch.cuda`: one device whose streams do at once what they are given."""

    def is_initialized(self) -> bool:
        return True

    def is_current_stream_capturing(self) -> bool:
        return False

    def current_stream(self) -> Any:
        return SimpleNamespace(device_index=0, cuda_stream=7)

    def Stream(self, device: int) -> Any:  # noqa: N802 - as in torch.cuda
        return SimpleNamespace(device_index=device, cuda_stream=99)

    def device(self, index: int) -> Any:
        return nullcontext()

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 - as in torch.cuda
        return _Event()

    def current_device(self) -> int:
        return 0

    def get_device_properties(self, device: int) -> Any:
        return SimpleNamespace(pci_domain_id=0, pci_bus_id=1, pci_device_id=2)


class _Event:
    def record(self, stream: Any) -> None:
        self.at = time.monotonic_ns()

    def query(self) -> bool:
        return True

    def elapsed_time(self, later: _Event) -> float:
        return (later.at - self.at) / 1e6


class _Cards:
    """Counters of a card that is made up."""

    covers = "counters of a made-up card"

    def install(self, recorder: Recorder, topology: Topology) -> None:
        recorder.samplers.append(Nvml(_Cuda, _Pynvml).sample)

    def uninstall(self) -> None: ...


class _Pynvml:
    """Stands for the package pynvml, with one card."""

    NVMLError = type("NVMLError", (Exception,), {})
    NVML_SUCCESS = NVML_PCIE_UTIL_TX_BYTES = 0
    NVML_PCIE_UTIL_RX_BYTES = 1
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX = 138
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 139
    NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON = 90
    NVML_FI_DEV_NVLINK_LINK_COUNT = 91

    def nvmlInit(self) -> None: ...  # noqa: N802 - as in pynvml

    def nvmlDeviceGetHandleByPciBusId(self, address: bytes) -> Any:  # noqa: N802
        return address

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=80, memory=30)

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:  # noqa: N802
        return 350_000

    def nvmlDeviceGetPcieThroughput(self, handle: Any, which: int) -> int:  # noqa: N802
        return 2_000

    def nvmlDeviceGetFieldValues(self, handle: Any, fields: Any) -> list[Any]:  # noqa: N802
        value = SimpleNamespace(ullVal=time.monotonic_ns(), uiVal=18)
        return [SimpleNamespace(nvmlReturn=0, value=value) for _ in fields]

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: Any) -> int:  # noqa: N802
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: Any) -> int:  # noqa: N802
        return 16


MORE_COLLECTORS: Final = (_Device, _Cards, _WaitsForAModule, _StepHook)
"""What an installed package would bring, beside the collectors that Rankscope has itself."""
