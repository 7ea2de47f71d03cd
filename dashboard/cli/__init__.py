"""`rankscope`, the command: it ends quietly when it is interrupted, also while it imports.

Exit codes: 0 fine, 1 a finding (a gate that failed), 2 bad usage or input, 130 interrupted.
"""

import sys
from typing import Final

INTERRUPTED: Final = 130
"""As a shell has it; not click's 1, which a gate would take for a finding."""


def main() -> None:
    """The command line, of which nothing is imported before an interruption is provided for."""
    try:
        from dashboard.cli.command_line import do_command

        code = do_command()
    except KeyboardInterrupt:
        print("rankscope: interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)
