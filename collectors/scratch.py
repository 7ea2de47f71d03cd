"""A folder for what one process needs for a while: it goes with the process, however that ends.

At the end of its block it is removed. A process that is killed cannot do so; the next one that
wants such a folder does. Which are left over, a lock tells that the kernel lets go of with its
process; where the file system has no locks, they stay. So do for a week those of other hosts, and
of before this one was started anew: several may share the directory, and see only their own locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PREFIX: Final = "rankscope-scratch-"
_LOCK: Final = "in-use.lock"
_ABANDONED_S: Final = 7 * 86_400
"""No import and no `gather` takes so long."""


def _prefix() -> str:
    """Of the folders that processes on this host make until it is started anew."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (OSError, ValueError):
        boot = platform.node()
    return _PREFIX + "".join(filter(str.isalnum, boot))[:16] + "-"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of its own in the directory for temporary files.

    Raises:
        OSError: none can be made there.
    """
    _remove_left()
    with tempfile.TemporaryDirectory(prefix=_prefix(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / "new.lock").open("wb") as held:
            with contextlib.suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # It has this name only when it is locked: nobody may take it for left over.
                os.rename(held.name, folder / _LOCK)
            yield folder


def _remove_left() -> None:
    """Remove the folders of this user that nobody holds any more."""
    of_this_host = _prefix()
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):
            is_old = time.time() - lock.stat().st_mtime > _ABANDONED_S
            if not (is_old or lock.parent.name.startswith(of_this_host)):
                continue
            if lock.parent.lstat().st_uid == os.getuid():
                with lock.open("r+b") as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent, ignore_errors=True)
