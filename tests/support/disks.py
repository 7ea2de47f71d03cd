"""Small file systems of their own, to be filled up or made read-only."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(at: Path, *, megabytes: int = 1) -> Iterator[Path]:
    """A tmpfs; the test is skipped where it may not be mounted."""
    at.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "rankscope-test", at)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Nothing can be made in `directory`; what is open stays open. Root minds no permission bits,
    so that it takes a mount.
    """
    _mount("--bind", directory, directory)
    try:
        _mount("-o", "remount,bind,ro", directory)
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """A file that takes all space but `leave` bytes."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while (left := _free(disk) - leave) > 0:
            file.write(bytes(min(left, 1 << 16)))
    return filler


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
