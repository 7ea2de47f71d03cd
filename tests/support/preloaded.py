"""A process that has imported torch, and forks the process of a script when it is asked to.

`import torch` takes 1.5 s of processor time, with FSDP2 and pipelining 2.6 s: in every process
that a test starts, and in torchrun's launcher. Here it is paid once per worker of pytest.

What it forks is a process like any other, with its own memory, threads, process groups and end.
It differs from a fresh one in this, and a test that is about this starts fresh ones:

- torch was imported before the script (and before `tracer`);
- the ranks of a job hash strings alike, where each fresh interpreter draws a seed of its own;
- a launcher that stands for torchrun knows no options, and does not start a job again.

No thread is there at a fork: this process has none, and the launcher makes its Store, which has
some, after it forked all ranks.

    python -u -m tests.support.preloaded DESCRIPTOR [MODULE ...]

imports these modules too, and reads one request per message from that socket: JSON, with the
descriptors of stdout and stderr. The answer is the exit code. When the socket closes, it and all
that it started end.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

LARGEST_REQUEST = 1 << 17
_IMPORTED = (
    "numpy",
    "torch",
    "torch.distributed.fsdp",
    "torch.distributed.pipelining",
    "torch.distributed.tensor.parallel",
)
_PR_SET_PDEATHSIG = 1
_GRACE_S = 10
"""From SIGTERM to SIGKILL, for the ranks that another's failure ends."""


def wait_for_a_program(connection: socket.socket, more: Sequence[str]) -> list[str]:
    """Serve; returns in each process that is to run a program, with its arguments."""
    for name in (*_IMPORTED, *more):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the first collection of a child copies every page
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 2)
        if not message:
            os._exit(0)
        threads = len(os.listdir("/proc/self/task"))
        if threads != 1:
            raise RuntimeError(f"{threads} threads: a fork would lose all but one")
        child = _fork()
        if child == 0:
            connection.close()
            return _become(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(str(_exit_code(child, connection)).encode())


def _exit_code(child: int, connection: socket.socket) -> int:
    """Of the child, when it has ended; as subprocess tells it, minus the signal that killed it."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    for descriptor in (ended, connection.fileno()):
        poll.register(descriptor, select.POLLIN)
    while ended not in (ready := [descriptor for descriptor, _ in poll.poll()]):
        if connection.fileno() in ready:
            os._exit(1)  # nobody waits for the answer; the child dies with us
    os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _fork() -> int:
    """As `os.fork`; the child is killed when its parent ends."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return child


def _become(request: dict[str, Any], descriptors: list[int]) -> list[str]:
    for descriptor, standard in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["processes"] is not None:
        _launch(request["processes"])
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # else the parent's
    sys.modules["multiprocessing.process"].ORIGINAL_DIR = request["cwd"]  # what spawns starts there
    sys.modules["numpy"].random.seed()  # it drew its seed when it was imported; random draws again
    return list(request["arguments"])


def _launch(processes: int) -> None:
    """Be torchrun: fork the ranks, host their Store, end all when one fails. Ranks return."""
    read, write = os.pipe()
    ranks = {}
    for rank in range(processes):
        child = _fork()
        if child == 0:
            os.close(write)
            port = os.read(read, 8)
            os.close(read)
            os.environ.update(_variables(rank, processes, port.rstrip().decode()))
            return
        ranks[child] = rank
    store = sys.modules["torch.distributed"].TCPStore(
        "localhost", 0, is_master=True, wait_for_workers=False
    )
    os.write(write, f"{store.port:<8}".encode() * processes)
    failed = False
    while ranks:
        child, status = os.wait()
        rank, code = ranks.pop(child), os.waitstatus_to_exitcode(status)
        if code and not failed:
            print(f"rank {rank} failed with exit code {code}", file=sys.stderr)
            _end(ranks)
            failed = True
    os._exit(1 if failed else 0)


def _end(ranks: dict[int, int]) -> None:
    for child in ranks:
        os.kill(child, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    running = [os.pidfd_open(child) for child in ranks]
    for ended in running:
        if not select.select([ended], [], [], max(0, deadline - time.monotonic()))[0]:
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        os.close(ended)


def _variables(rank: int, processes: int, port: str) -> dict[str, str]:
    """What torchrun tells its workers (2.13, `--standalone`)."""
    numbers = dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), str(rank))
    sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), str(processes))
    return {
        **numbers,
        **sizes,
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_NAME": "default",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_RUN_ID": f"preloaded-{os.getppid()}",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _execute(arguments: list[str]) -> None:
    """As `python ARGUMENTS` does, in a new `__main__`; what is raised ends the interpreter."""
    sys.orig_argv = [sys.executable, *arguments]
    main = sys.modules["__main__"] = ModuleType("__main__")
    match arguments:
        case ["-m", module, *_]:
            sys.argv, sys.path[0] = arguments[1:], str(Path.cwd())
            runpy._run_module_as_main(module)  # type: ignore[attr-defined]
        case ["-c", code, *rest]:
            sys.argv, sys.path[0] = ["-c", *rest], ""
            exec(compile(code, "<string>", "exec"), main.__dict__)
        case [script, *_]:
            sys.argv, sys.path[0] = list(arguments), str(Path(script).resolve().parent)
            main.__file__ = script
            exec(compile(Path(script).read_bytes(), script, "exec"), main.__dict__)


if __name__ == "__main__":
    _execute(wait_for_a_program(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]))
