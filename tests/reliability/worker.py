"""One rank of the pair that trains again and again, each time with another fault in the tracer."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import schedules
from torch.distributed.pipelining.stage import _PipelineStageBase

from collectors.live.communication import _FUNCTIONAL, _operators
from tests.reliability.exercise import EXERCISES, Outcome
from tests.reliability.stand_ins import Graph
from tests.reliability.targets import Fault, Target, targets
from tracer import session
from tracer.streams import read_stream

ERRORS = {error.__name__: error for error in (RuntimeError, MemoryError, OSError)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One training: what fails, at which call, how, and on which ranks; no target, no fault."""

    exercise: str
    target: str | None
    at: int | None
    error: str = "RuntimeError"
    ranks: tuple[int, ...] = (0, 1)


@dataclass(slots=True)
class Result:
    """What one rank found; `broken` holds a line per promise that was not kept."""

    fired: bool = False
    broken: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)


def main(rank: int, port: int, directory: Path, pipe: Any) -> None:
    """Take cases from the pipe until there is None."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    warnings.simplefilter("ignore")  # of torch and Megatron; ours are not Python's warnings
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    pair = _Rank(rank, directory)
    pipe.send("ready")
    # None, or the other end is gone: a killed parent leaves no ranks behind.
    while (order := _next(pipe)) is not None:
        pipe.send(pair.count(order) if isinstance(order, str) else pair.run(order))
    dist.destroy_process_group()


def _next(pipe: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        return None


class _Rank:
    def __init__(self, rank: int, directory: Path) -> None:
        self._rank = rank
        self._directory = directory
        self._targets = {target.name: target for target in targets()}
        self._bare: dict[str, Outcome] = {}
        self._number = 0

    def bare(self, exercise: str) -> Outcome:
        """What the training gives without a tracer; twice, since a first time loads things."""
        if exercise not in self._bare:
            EXERCISES[exercise](None, self._scratch())
            self._bare[exercise] = EXERCISES[exercise](None, self._scratch())
        return self._bare[exercise]

    def count(self, exercise: str) -> dict[str, int]:
        """How often each target is called in a sound training."""
        self.bare(exercise)
        counts = {}
        with contextlib.ExitStack() as undo:
            for target in self._targets.values():
                counts[target.name] = fault = Fault(None, RuntimeError)
                undo.callback(target.install(fault))
            EXERCISES[exercise](self._run_directory(), self._scratch())
        return {name: fault.calls for name, fault in counts.items()}

    def run(self, case: Case) -> Result:
        """One training with the fault; everything that must hold is looked at."""
        fault = Fault(case.at if self._rank in case.ranks else None, ERRORS[case.error])
        target = None if case.target is None else self._targets[case.target]
        result = Result()
        bits, said_bare = self.bare(case.exercise)
        run = self._run_directory()
        before = _state()
        said = io.StringIO()
        with _watched_threads(result.broken), contextlib.redirect_stderr(said):
            outcome = self._train(case.exercise, run, target, fault, result)
        result.fired = fault.fired
        after = _state()
        if outcome is not None and outcome[0] != bits:
            result.broken.append("the parameters are other ones")
        if outcome is not None and outcome[1] != said_bare:
            pairs = zip(said_bare, outcome[1], strict=False)
            different = next((a for a in pairs if a[0] != a[1]), "one is shorter")
            result.broken.append(f"calls gave something else: {different}")
        result.broken += [
            f"not as before: {name}" for name in before if before[name] != after.get(name)
        ]
        lines = [line for line in said.getvalue().splitlines() if "no progress" not in line]
        warnings = [line for line in lines if line.startswith("rankscope:")]
        if len(warnings) > (1 if fault.fired else 0):
            result.broken.append(f"{len(warnings)} warnings: {warnings}")
        if "Traceback" in said.getvalue():
            result.broken.append(f"on standard error: {said.getvalue()[-2000:]}")
        result.broken += _unreadable(run, self._rank, fault.fired)
        return result

    def _train(
        self, exercise: str, run: Path, target: Target | None, fault: Fault, result: Result
    ) -> Outcome | None:
        undo = (lambda: None) if target is None else target.install(fault)
        try:
            return EXERCISES[exercise](run, self._scratch())
        except Exception as error:
            result.broken.append(f"the training got {error!r}\n{traceback.format_exc(limit=-6)}")
            return None
        finally:
            undo()

    def _scratch(self) -> Path:
        path = self._directory / f"scratch-{self._rank}"
        path.mkdir(exist_ok=True)
        return path

    def _run_directory(self) -> Path:
        """Both ranks count alike; what a run leaves goes with the run after the next."""
        self._number += 1
        if self._rank == 0:
            shutil.rmtree(self._directory / f"run-{self._number - 2}", ignore_errors=True)
        return self._directory / f"run-{self._number}"


@contextlib.contextmanager
def _watched_threads(broken: list[str]) -> Iterator[None]:
    """What ends a thread, or is raised where nobody can catch it, goes to `broken`."""
    own = threading.excepthook, sys.unraisablehook

    def ended(what: Any) -> None:
        broken.append(f"raised where nobody can catch it: {what.exc_value!r}")

    threading.excepthook = sys.unraisablehook = ended
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = own


def _state() -> dict[str, Any]:
    """Everything that a tracer changes in a process and must put back."""
    owners: dict[str, Any] = {
        "ProcessGroup": dist.ProcessGroup,
        "Work": dist.Work,
        "DeviceMesh": DeviceMesh,
        "PipelineStage": _PipelineStageBase,
        "torch.distributed": dist,
        "torch.distributed.distributed_c10d": dist.distributed_c10d,
        "torch.optim.Optimizer": torch.optim.Optimizer,
        "torch.nn.Module": torch.nn.Module,
        "torch.nn.Linear": torch.nn.Linear,
        "torch.nn.Sequential": torch.nn.Sequential,
        "torch.nn.parallel.DistributedDataParallel": torch.nn.parallel.DistributedDataParallel,
        "torch.autograd": torch.autograd,
        "torch.autograd.profiler.profile": torch.autograd.profiler.profile,
        "Graph": Graph,
    }
    owners |= {name: cls for name, cls in vars(schedules).items() if isinstance(cls, type)}
    for name in ("wait_tensor", *_FUNCTIONAL):
        for operator in _operators(name):
            owners[f"torch.ops.{operator}"] = operator
    for name, module in list(sys.modules.items()):
        if name.startswith("megatron.core.") and isinstance(module, type(sys)):
            owners[name] = module
    state: dict[str, Any] = {
        f"{owner}.{name}": id(value)
        for owner, holder in owners.items()
        for name, value in list(vars(holder).items())
        if callable(value)
    }
    hooks = torch.nn.modules.module, sys.modules["torch.optim.optimizer"]
    state |= {
        f"hooks {name}": len(value)
        for module in hooks
        for name, value in vars(module).items()
        if name.startswith("_global") and isinstance(value, dict)
    }
    state["signal handlers"] = [signal.getsignal(number) for number in signal.valid_signals()]
    state["sys.meta_path"] = list(sys.meta_path)
    state["sys.excepthook"] = sys.excepthook
    state["threading.excepthook"] = threading.excepthook
    state["the tracer that records"] = session._current
    state["profiler at work"] = torch.autograd._profiler_enabled()
    state["threads"] = sorted(
        thread.name for thread in threading.enumerate() if "rankscope" in thread.name
    )
    return state


def _unreadable(run: Path, rank: int, fired: bool) -> Iterator[str]:
    """Files of this rank that cannot be read, although a fault may keep them from being begun."""
    for content, ending in (("events", "arrows"), ("counters", "counters.arrows")):
        path = run / f"rank-{rank:05d}.{ending}"
        if fired and (not path.exists() or path.stat().st_size == 0):
            continue
        try:
            problem = read_stream(path, content).problem
        except Exception as error:
            problem = repr(error)
        if problem is not None:
            yield f"not readable: {problem}"


def open_files() -> int:
    """File descriptors of this process, after what nobody holds is gone."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
