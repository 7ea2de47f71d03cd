"""Start real training processes, with the tracer in front of the script or without it."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "end_to_end" / "scripts"
TIMEOUT_S = 240
_GRACE_S = 10
_TORCH_ABORTED = "terminate called without an active exception"


class TorchAborted(AssertionError):
    """A process was aborted by C++ while its interpreter ended, with its work done.

    torch's own fault, with the tracer and without: DistributedDataParallel keeps the process group
    alive beyond `destroy_process_group`, so threads of gloo still run when the interpreter goes,
    and one that lets go of its last operation then asks for a lock that is gone
    (https://github.com/pytorch/pytorch/pull/179291). Seen once in some hundred runs on a busy
    machine.
    """


def run_python(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    expect: int = 0,
    preloaded: bool = False,
    imported: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS`; the test fails with its output if it does not exit with `expect`.

    With `preloaded`, forked from an interpreter that has imported torch (preloaded.py), and what
    is `imported` after it, unless a variable in `env` acts earlier than that.

    Where torch aborts a process that had ended, once more: into paths that are new again.
    """
    given = [str(argument) for argument in arguments]

    def run() -> subprocess.CompletedProcess[str]:
        if preloaded and _acting_early(environment(env)) == _acting_early(_server(*imported).env):
            return _expected(_forked(given, imported=imported, cwd=cwd, env=env), expect)
        return _expected(_fresh(given, cwd=cwd, env=env), expect)

    return _again_if_torch_aborts(run, arguments)


def torchrun(
    processes: int,
    *arguments: str | Path,
    cwd: Path | None = None,
    expect: int = 0,
    fresh: bool = False,
    imported: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc-per-node PROCESSES ARGUMENTS`, on this host, on a free port.

    Its ranks are forked from an interpreter that has imported torch (preloaded.py), and what is
    `imported` after it. With `fresh` they are new interpreters, started by torchrun itself, which
    may be given options.

    Where torch aborts a process that had ended, once more: into paths that are new again.
    """
    if fresh or _acting_early(environment()) != _acting_early(_server(*imported).env):
        launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
        return run_python(*launch, *arguments, cwd=cwd, expect=expect)
    given = [str(argument) for argument in arguments]

    def run() -> subprocess.CompletedProcess[str]:
        done = _forked(given, imported=imported, processes=processes, cwd=cwd)
        return _expected(done, expect)

    return _again_if_torch_aborts(run, arguments)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """One thread per process, our packages importable, nothing of a launcher around the tests."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TORCHELASTIC_", "RANKSCOPE_", "MASTER_"))
        and name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | dict(extra or {})


def record(
    run: Path,
    script: Path,
    arguments: Sequence[str | Path],
    *,
    processes: int = 4,
    fresh: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Record a script that knows nothing of us: `torchrun … -m tracer --out RUN SCRIPT …`."""
    return torchrun(processes, "-m", "tracer", "--out", run, script, *arguments, fresh=fresh)


def _again_if_torch_aborts(
    run: Callable[[], subprocess.CompletedProcess[str]], arguments: Sequence[str | Path]
) -> subprocess.CompletedProcess[str]:
    new = [path for path in arguments if isinstance(path, Path) and not path.exists()]
    try:
        return run()
    except TorchAborted as aborted:
        warnings.warn(f"launched again: {aborted}", stacklevel=3)
        for path in new:
            shutil.rmtree(path, ignore_errors=True)
        return run()


def _fresh(
    arguments: list[str], *, cwd: Path | None, env: Mapping[str, str] | None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", *arguments]
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, said = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(_where_it_hangs(process)) from None
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, said)


def _where_it_hangs(process: subprocess.Popen[str]) -> str:
    """The stacks of all its threads, which it writes as it is aborted."""
    process.send_signal(signal.SIGABRT)
    try:
        said = process.communicate(timeout=_GRACE_S)
    except subprocess.TimeoutExpired as error:  # of its own children, who hold its pipes, perhaps
        process.kill()
        said = error.stdout, error.stderr
    return f"still at work after {TIMEOUT_S} s\n{said[0]}\n{said[1]}"


def _expected(
    done: subprocess.CompletedProcess[str], expect: int
) -> subprocess.CompletedProcess[str]:
    if done.returncode != expect:
        said = f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        raise TorchAborted(said) if _TORCH_ABORTED in done.stderr else AssertionError(said)
    return done


def _forked(
    arguments: list[str],
    *,
    imported: Sequence[str],
    processes: int | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """From the preloaded process. It ends, and all that it forked, if this raises."""
    server = _server(*imported)
    request = {
        "arguments": arguments,
        "processes": processes,
        "cwd": str(cwd or Path.cwd()),
        "env": environment(env),
    }
    with tempfile.TemporaryFile("a+") as stdout, tempfile.TemporaryFile("a+") as stderr:
        try:
            files = [stdout.fileno(), stderr.fileno()]
            socket.send_fds(server.connection, [json.dumps(request).encode()], files)
            answer = server.connection.recv(16)
            if not answer:
                raise RuntimeError("the preloaded process ended")
        except BaseException as error:
            _server.cache_clear()
            server.stop()
            if isinstance(error, TimeoutError):
                raise subprocess.TimeoutExpired(arguments, TIMEOUT_S) from None
            raise
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(arguments, int(answer), stdout.read(), stderr.read())


@functools.cache
def _server(*imported: str) -> _Server:
    server = _Server(imported)
    atexit.register(server.stop)
    return server


class _Server:
    """The process of preloaded.py, and the connection that keeps it running."""

    def __init__(self, imported: Sequence[str]) -> None:
        self.env = environment()
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.connection.settimeout(TIMEOUT_S)
        with theirs:
            serve = ["-u", "-m", "tests.support.preloaded", str(theirs.fileno())]
            self._process = subprocess.Popen(
                [sys.executable, *serve, *imported],
                cwd=ROOT,
                env=self.env,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def stop(self) -> None:
        self.connection.close()
        self._process.wait(TIMEOUT_S)


def _acting_early(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that act when an interpreter starts or torch is imported."""
    early = ("PYTHON", "TORCH", "PYTORCH", "OMP_", "OPENBLAS_", "MKL_", "KMP_", "LD_", "LANG")
    return {name: value for name, value in env.items() if name.startswith(early)}
