"""The progress bar of `eval`: what is run, chunks done, time left. Silent where nobody watches."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from quantrecipe.cli.context import watched
from quantrecipe.cli.errors import printable
from quantrecipe.cli.progress import NARROW, Fitting

__all__ = ["EvalProgress"]


class EvalProgress:
    """Draws on `console` while used as a context manager, if that is a terminal."""

    def __init__(self, console: Console) -> None:
        narrow = console.width < NARROW
        self._bar = Progress(
            Fitting(console, 20 if narrow else 29, lambda: self._bar.tasks),
            *(() if narrow else (BarColumn(bar_width=None),)),
            MofNCompleteColumn(),
            *(() if narrow else (TextColumn("chunks"),)),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=not watched(console),
            transient=True,
            expand=True,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def task(self, what: str) -> Callable[[int, int], None]:
        """A line for something that is run; what it gives is told (chunks done, chunks in all)."""
        task = self._bar.add_task(printable(what), total=None)
        return lambda done, total: self._bar.update(task, completed=done, total=total)
