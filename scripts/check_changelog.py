"""Fail when the public surface changed in a commit after the one that last touched CHANGELOG.md.

A commit that users need not hear of says so in its message with the line `Changelog: none`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PUBLIC = (
    "tracer/__init__.py",
    "tracer/schema.py",
    "tracer/protocol.py",
    "dashboard/__init__.py",
    "dashboard/cli",
)
EXEMPT = "Changelog: none"


def unmentioned_commits(repository: Path) -> list[str]:
    """`<hash> <subject>` of each commit that owes the changelog a line; newest first."""
    last = _git(repository, "log", "-1", "--format=%H", "--", "CHANGELOG.md").strip()
    if not last:
        return []
    log = _git(repository, "log", "--format=%h %s%n%b%x00", f"{last}..HEAD", "--", *PUBLIC)
    messages = [message.strip() for message in log.split("\0") if message.strip()]
    return [
        message.splitlines()[0] for message in messages if EXEMPT not in message.splitlines()[1:]
    ]


def main() -> int:
    """Print what is owed; 1 if anything is."""
    repository = Path(__file__).resolve().parent.parent
    if not (repository / ".git").exists():
        return 0
    owed = unmentioned_commits(repository)
    for commit in owed:
        print(f"not in CHANGELOG.md: {commit}", file=sys.stderr)
    if owed:
        print(
            f"Add a line to CHANGELOG.md, or {EXEMPT!r} to the commit message "
            "if users need not hear of it.",
            file=sys.stderr,
        )
    return 1 if owed else 0


def _git(repository: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repository), *arguments], check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
