"""A picture of a terminal, for the documentation: runs a command in a terminal of 80 columns, and draws what it prints.

    python tools/terminal_picture.py docs/images/plan.svg quantrecipe plan recipes/code-model.yaml examples/tiny-code

The picture is SVG that needs no font, script or page from elsewhere: readers without the font get a monospaced one of
their own.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 80


def printed(command: list[str]) -> str:
    """What the command prints to a terminal, escape sequences included; what progress bars overwrote is left out."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env=environment | {"TERM": "xterm-256color"}
    )
    os.close(child)
    pieces = []
    while True:
        try:
            piece = os.read(parent, 1 << 16)
        except OSError:  # Linux says so when the other side has closed
            break
        if not piece:
            break
        pieces.append(piece)
    if process.wait():
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}")
    return b"".join(pieces).decode().replace("\r\n", "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(width=COLUMNS, record=True, file=nowhere, force_terminal=True)
        console.print(Text(f"$ {' '.join(args.command)}", style="bold"))
        for line in printed(args.command).splitlines():
            console.print(Text.from_ansi(line.rsplit("\r", 1)[-1]), soft_wrap=True)
    fonts, _, rest = CONSOLE_SVG_FORMAT.partition("@font-face")
    rest = rest[rest.index(".{unique_id}-matrix") :]  # the rules behind those that fetch a font
    svg = console.export_svg(
        title="quantrecipe", theme=MONOKAI, code_format=fonts + rest, unique_id="terminal"
    )
    args.out.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
