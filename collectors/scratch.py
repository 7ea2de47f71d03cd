"""A folder for what one process needs for a while: it goes with the process, however that ends.

At the end of its block it is removed. A process that is killed cannot do so; the next one that
wants such a folder does. Which are left over, a lock tells that the kernel lets go of with its
process; where the file system has no locks, they stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PREFIX: Final = "rankscope-scratch-"
_LOCK: Final = "in-use.lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of its own in the directory for temporary files.

    Raises:
        OSError: none can be made there.
    """
    _remove_left()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / "new.lock").open("wb") as held:
            with contextlib.suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # It has this name only when it is locked: nobody may take it for left over.
                os.rename(held.name, folder / _LOCK)
            yield folder


def _remove_left() -> None:
    """Remove the folders of this user that nobody holds any more."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):
            if lock.parent.lstat().st_uid == os.getuid():
                with lock.open("r+b") as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent, ignore_errors=True)
