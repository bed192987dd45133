"""Running a command as on a terminal of some width, or in a pipe."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from quantrecipe.cli import main

__all__ = ["Shown", "show"]


@dataclass(frozen=True)
class Shown:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


class _Stream(io.TextIOWrapper):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]  # BytesIO


def show(args: Sequence[object], *, width: int | None, colour: str = "never") -> Shown:
    """`width`: columns of the terminal; None: a pipe, with a COLUMNS that must not matter."""
    out, err = (_Stream(terminal=width is not None) for _ in range(2))
    environment = {"COLUMNS": str(width or 40), "LINES": "50", "TERM": "xterm-256color"}
    with patch.dict("os.environ", environment), redirect_stdout(out), redirect_stderr(err):
        status = main(["--color", colour, *map(str, args)])
    return Shown(status, out.text(), err.text())
