"""The progress of what reads whole models: a bar where somebody watches, else a line if kernels are compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe import __version__
from quantrecipe.cli.context import watched
from quantrecipe.cli.errors import print_note, printable
from quantrecipe.errors import Problem
from quantrecipe.output.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "apply_progress",
    "keep_asked",
    "say_compiling",
    "say_kept",
    "say_resumed",
    "say_started_over",
    "say_told",
]


def apply_progress(console: Console) -> AbstractContextManager[Progress]:
    """What `apply` and `verify` tell how far they are. In a pipe nothing that draws is loaded."""
    if not watched(console):
        return nullcontext(_Unwatched(console))
    from quantrecipe.cli.progress import ApplyBar

    return ApplyBar(console)


def say_compiling(console: Console) -> None:
    """Once, before the first kernel is compiled, where there is no terminal to draw a bar on."""
    from quantrecipe.core.cache import kernel_folder

    kept = "(only once on each machine)"
    if kernel_folder(__version__) is None:
        kept = (
            "(at each run: there is no folder to keep them in; set QUANTRECIPE_CACHE_DIR to one of your own)"
        )
    console.print(f"compiling kernels {kept}", soft_wrap=True)


def say_resumed(console: Console, part: Path, share: float) -> None:
    """That the run goes on with what an earlier one has left."""
    print_note(console, Problem(what=f"resumed: {share:.0%} was there, in {part}"))


def say_started_over(console: Console, part: Path, why: str) -> None:
    """That the run can't use what an earlier one has left, and why."""
    print_note(console, Problem(what=f"{part} was left by a run of {why}, so the work starts over"))


def say_kept(console: Console, part: Path, share: float) -> None:
    """That what a run has made stays there."""
    what = f"{share:.0%} of the work is kept in {part}"
    print_note(console, Problem(what=what, remedy="the same command goes on with it"))


def say_told(console: Console, what: str) -> None:
    """What has become of an executor's workers."""
    print_note(console, Problem(what=what))


def keep_asked(console: Console, progress: Progress, *, keep_part: bool) -> Callable[[Path, float], bool]:
    """Whether a part stays after Ctrl-C: where `--keep-part` says so, or somebody at a terminal does."""

    def keep(part: Path, share: float) -> bool:
        if keep_part or not (watched(console) and sys.stdin is not None and sys.stdin.isatty()):
            return keep_part
        from quantrecipe.cli.progress import ApplyBar

        if isinstance(progress, ApplyBar):
            progress.stop()
        question = f"{share:.0%} of the work is done. Keep it in {printable(str(part))}, for the same command to go on?"
        try:
            return click.confirm(question, default=True, err=True)
        except click.Abort:  # Ctrl-C once more
            return False

    return keep


class _Unwatched(Silent):
    def __init__(self, console: Console) -> None:
        self._console = console

    def compiling(self, number: int, total: int, what: str) -> None:
        if number == 1:
            say_compiling(self._console)

    def resumed(self, part: Path, share: float) -> None:
        say_resumed(self._console, part, share)

    def started_over(self, part: Path, why: str) -> None:
        say_started_over(self._console, part, why)

    def kept(self, part: Path, share: float) -> None:
        say_kept(self._console, part, share)

    def told(self, what: str) -> None:
        say_told(self._console, what)
