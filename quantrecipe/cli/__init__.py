"""The command line, one file per command. Only this package prints.

`main` is what the `quantrecipe` script calls. Its exit status: 0 done, 1 an error that the message explains,
2 a command line that isn't understood, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command line (the process's own by default) and returns its exit status. Prints; never raises."""
    from quantrecipe.cli.command_line import run  # so that importing the package, as tests do, loads no click

    return run(sys.argv[1:] if args is None else args)
