"""What this process knows of itself before it has measured anything."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import platform
import sys
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_SHARED_BY_ALL_RANKS = (
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""Variables that a launcher sets to the same value on every rank of one attempt."""


_RECORDING = "RANKSCOPE_RECORDING"


def rank_and_world_size() -> tuple[int, int]:
    """From the process group if there is one, else from the launcher's environment."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def run_id(world_size: int) -> str:
    """Twelve digits, equal on all ranks of one attempt and on no other."""
    if world_size == 1:
        return uuid.uuid4().hex[:12]
    shared = "\0".join(os.environ.get(name, "") for name in _SHARED_BY_ALL_RANKS)
    return hashlib.sha256(shared.encode()).hexdigest()[:12]


def note_recording(path: Path | None) -> None:
    """Tell the processes that this one starts from now on where it records; None: nowhere."""
    if path is None:
        os.environ.pop(_RECORDING, None)
    else:
        os.environ[_RECORDING] = f"{os.getpid()}:{path}"


def helps_recorder(path: Path) -> bool:
    """Whether this process is a helper (a data-loading worker) of one that records into `path`.

    A process that multiprocessing spawns runs the module level of the training script again, and
    with it a `Tracer()` that stands there.
    """
    pid, _, recorded = os.environ.get(_RECORDING, "").partition(":")
    importing_main = getattr(multiprocessing.current_process(), "_inheriting", False)
    spawned = importing_main or multiprocessing.parent_process() is not None
    return spawned and recorded == str(path) and pid != str(os.getpid())


def boot_id() -> str:
    """What processes that share a clock have in common; empty where Linux does not tell.

    That is the boot of their host, and, in a time namespace (a container may have one, with a
    CLOCK_MONOTONIC of its own), how far its clock is off.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return boot + _time_namespace()


def _time_namespace() -> str:
    """`+<seconds>.<nanoseconds>` that CLOCK_MONOTONIC is ahead of the host's, or nothing."""
    try:
        lines = Path("/proc/self/timens_offsets").read_text(encoding="ascii").splitlines()
    except OSError:
        return ""
    for clock, *ahead in map(str.split, lines):
        if clock == "monotonic" and any(part != "0" for part in ahead):
            return f"+{'.'.join(ahead)}"
    return ""


def device() -> str:
    """The device of the calling thread: `cpu`, or `cuda:3 (<name of the GPU>)`."""
    cuda = _initialized_cuda()
    if cuda is None:
        return "cpu"
    return f"cuda:{cuda.current_device()} ({cuda.get_device_name()})"


def versions() -> dict[str, str]:
    """Versions of what took part in the recording."""
    torch_version = getattr(sys.modules.get("torch"), "__version__", None)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "rankscope": own_version(),
    } | ({} if torch_version is None else {"torch": str(torch_version)})


def _initialized_cuda() -> Any:
    """`torch.cuda` if it is in use, else None.

    The writer thread may ask while the main thread is still importing torch: the module is in
    `sys.modules` by then, but its attributes are not there yet.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)
    return cuda if is_initialized is not None and is_initialized() else None


def own_version() -> str:
    """Rankscope's."""
    try:
        return version("rankscope")
    except PackageNotFoundError:
        return "not installed"
