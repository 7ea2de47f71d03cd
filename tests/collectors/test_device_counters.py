"""Counters of memory for real, and of NVML against a card that is made up (there is none here)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from collectors.live.device_counters import Nvml, gpu_memory, resident_memory
from tracer import Tracer


def test_the_memory_of_this_process_is_sampled_into_the_file(tmp_path: Path) -> None:
    held = bytearray(200 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    with Tracer(tmp_path / "run"):
        pass
    with pa.OSFile(str(tmp_path / "run" / "rank-00000.counters.arrows")) as source:
        found = pa.ipc.open_stream(source).read_all().to_pylist()
    values = [row["value"] for row in found if row["name"] == "memory.resident/bytes"]

    assert values
    assert all(len(held) < value < 64 << 30 for value in values)
    assert resident_memory()["memory.resident/bytes"] > len(held)


def test_without_cuda_there_is_no_gpu_memory() -> None:
    torch = pytest.importorskip("torch", reason="asks torch for CUDA")
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        pytest.skip("this process uses a GPU")
    assert gpu_memory() == {}


class _Missing(Exception):
    """What NVML raises for a value that the card does not have."""


def _card(**missing: bool) -> Any:
    """A mock of pynvml with one card: names and units as in the NVML API reference."""
    nvml: Any = ModuleType("pynvml")
    total = iter(range(0, 10_000, 1000))

    def value(name: str, result: Any) -> Any:
        def ask(*unused: Any) -> Any:
            if missing.get(name):
                raise _Missing
            return result() if callable(result) else result

        return ask

    nvml.NVMLError, nvml.NVML_SUCCESS = _Missing, 0
    nvml.NVML_PCIE_UTIL_TX_BYTES, nvml.NVML_PCIE_UTIL_RX_BYTES = 0, 1
    nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX = 138
    nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 139
    nvml.nvmlInit = value("init", None)
    nvml.asked = []
    nvml.nvmlDeviceGetHandleByPciBusId = nvml.asked.append
    nvml.nvmlDeviceGetUtilizationRates = value("rates", SimpleNamespace(gpu=80, memory=30))
    nvml.nvmlDeviceGetPowerUsage = value("power", 350_000)
    nvml.nvmlDeviceGetPcieThroughput = value("pcie", 2_000)
    nvml.NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON, nvml.NVML_FI_DEV_NVLINK_LINK_COUNT = 90, 91
    fields: dict[int, int] = {90: 26_562, 91: 18}

    def ask_fields(handle: Any, asked: list[Any]) -> list[Any]:
        if missing.get("nvlink"):
            raise _Missing
        values = [
            SimpleNamespace(uiVal=fields[field])
            if field in fields
            else SimpleNamespace(ullVal=next(total))
            for field in asked
        ]
        return [SimpleNamespace(nvmlReturn=0, value=found) for found in values]

    nvml.nvmlDeviceGetFieldValues = ask_fields
    nvml.nvmlDeviceGetMaxPcieLinkGeneration = value("pcie", 5)
    nvml.nvmlDeviceGetMaxPcieLinkWidth = value("pcie", 16)
    return nvml


def _cuda() -> Any:
    address = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x3B, pci_device_id=0)
    return SimpleNamespace(current_device=lambda: 1, get_device_properties=lambda device: address)


def test_a_card_is_found_by_its_address_and_its_units_are_ours() -> None:
    nvml = _card()
    sampler = Nvml(_cuda, lambda: nvml)
    first, second = sampler.sample(), sampler.sample()

    assert nvml.asked == [b"00000000:3b:00.0"]
    assert first == {
        "gpu1.sm/percent": 80.0,
        "gpu1.memory_controller/percent": 30.0,
        "gpu1.power/W": 350.0,
        "gpu1.pcie_tx/bytes_per_s": 2e6,
        "gpu1.pcie_rx/bytes_per_s": 2e6,
        # 18 links of 26,562 MB/s; 16 lanes of 32 GT/s, of 130 bits 128 of them data.
        "gpu1.nvlink_peak/bytes_per_s": 18 * 26_562e6,
        "gpu1.pcie_peak/bytes_per_s": pytest.approx(63.015e9, rel=1e-4),
    }
    # What links could carry is told once, what they carry is a rate and needs two samples.
    assert set(second) - set(first) == {
        "gpu1.nvlink_tx/bytes_per_s",
        "gpu1.nvlink_rx/bytes_per_s",
    }
    assert not any("_peak" in name for name in second)
    assert second["gpu1.nvlink_tx/bytes_per_s"] > 0


def test_what_a_card_does_not_have_is_left_out() -> None:
    nvml = _card(pcie=True, nvlink=True, power=True)

    assert set(Nvml(_cuda, lambda: nvml).sample()) == {
        "gpu1.sm/percent",
        "gpu1.memory_controller/percent",
    }


def test_without_a_driver_nobody_asks_again() -> None:
    """The real package where it is installed: there is no driver here."""
    loaded = []

    def load() -> Any:
        loaded.append(1)
        return _card(init=True)

    sampler = Nvml(_cuda, load)
    assert (sampler.sample(), sampler.sample()) == ({}, {})
    assert loaded == [1]


def test_the_real_package_without_a_card_gives_nothing() -> None:
    nvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        assert Nvml(_cuda, lambda: nvml).sample() == {}
    else:
        pytest.skip("there is a card; tests/gpu has it")
