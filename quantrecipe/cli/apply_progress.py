"""The progress of what reads whole models: a bar where somebody watches, else a line if kernels are compiled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from quantrecipe import __version__
from quantrecipe.cli.context import watched
from quantrecipe.output.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["apply_progress", "say_compiling"]


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


class _Unwatched(Silent):
    def __init__(self, console: Console) -> None:
        self._console = console

    def compiling(self, number: int, total: int, what: str) -> None:
        if number == 1:
            say_compiling(self._console)
