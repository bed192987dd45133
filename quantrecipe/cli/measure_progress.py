"""The progress bar of `sensitivity`: its stage, what is at work, the share done. Silent where nobody watches."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from quantrecipe.cli.context import watched
from quantrecipe.cli.errors import printable
from quantrecipe.cli.progress import NARROW, Fitting, say_compiling
from quantrecipe.measure.progress import COMPILING

__all__ = ["MeasureBar"]


class MeasureBar:
    """Draws on `console` while used as a context manager, if that is a terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.fields[stage]}"),
            *(() if console.width < NARROW else (BarColumn(bar_width=None),)),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            Fitting(console, 24),
            console=console,
            disable=not watched(console),
            transient=True,
            expand=True,
        )
        self._task: TaskID | None = None
        self._what = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, what: str) -> None:
        if what == COMPILING:
            say_compiling(self._bar.console)
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("", total=1.0, stage=what)

    def say(self, what: str) -> None:
        self._what = printable(what)
        self._update(description=self._what)

    def share(self, done: float) -> None:
        self._update(description=f"{self._what} ({done:.0%})")

    def total(self, done: float) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done)

    def _update(self, description: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, description=description)
