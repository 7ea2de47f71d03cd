"""Write the output of the commands shown in README.md anew, so that it is what they print today.

A block ```` ```console ```` starts with `$ rankscope …`; what follows in it is that command's
output. With `--check` nothing is written; the exit code says whether something would be.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "README.md"
COLUMNS = "100"
"""Wide enough for every table, narrow enough not to scroll on the page."""
_BLOCK = re.compile(r"^```console\n\$ (.+)\n(?:.*\n)*?```$", flags=re.MULTILINE)


def main() -> int:
    """Rewrite the page, or with `--check` only compare."""
    old = PAGE.read_text(encoding="utf-8")
    new = updated(old)
    if "--check" in sys.argv[1:]:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


def updated(text: str) -> str:
    """The page with the present output in every block."""
    return _BLOCK.sub(lambda block: f"```console\n$ {block[1]}\n{_output(block[1])}```", text)


def _output(command: str) -> str:
    program, *arguments = shlex.split(command)
    printed = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": COLUMNS, "NO_COLOR": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


if __name__ == "__main__":
    sys.exit(main())
