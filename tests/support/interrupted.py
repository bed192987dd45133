"""What a process that is killed leaves of an output: copies of its parts and journals, taken while it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from quantrecipe.output.journal import Journal

__all__ = ["LEFT", "left_after", "put_back"]

LEFT = "*.quantrecipe-*"


def left_after(
    count: int, folder: Path, run: Callable[[], object], monkeypatch: pytest.MonkeyPatch, into: Path
) -> int:
    """Run, and copy what is in `folder` when so many records are written; how many there were in all."""
    write, written = Journal._write, 0

    def copying(self: Journal, line: bytes) -> None:
        nonlocal written
        write(self, line)
        written += 1
        if written == count:
            into.mkdir(exist_ok=True)
            for path in sorted(
                folder.glob(LEFT), key=lambda it: it.suffix
            ):  # what journals say is in the parts
                shutil.copy2(path, into)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_write", copying)
        run()
    return written


def put_back(folder: Path, left: Path) -> None:
    """Make it as it was when it was copied: nothing has its name."""
    for path in folder.iterdir():
        with suppress(OSError):
            path.unlink()
    for path in left.iterdir():
        shutil.copy2(path, folder)
