"""The progress bar of `apply`: tensor, share done, MB/s of source, time left. Silent where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from quantrecipe import __version__
from quantrecipe.cli.context import watched
from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import shorten
from quantrecipe.core.cache import kernel_folder
from quantrecipe.tensor import TensorInfo

__all__ = ["NARROW", "Fitting", "ProgressBar", "say_compiling"]

NARROW = 60
"""Columns below which only what is at work, how far it is, and the time that is left are shown."""


def say_compiling(console: Console) -> None:
    """Once, before the first kernel is compiled, where there is no terminal to draw a bar on."""
    if not watched(console):
        kept = "(only once on each machine)"
        if kernel_folder(__version__) is None:
            kept = "(at each run: there is no folder to keep them in; set QUANTRECIPE_CACHE_DIR to one of your own)"
        console.print(f"compiling kernels {kept}", soft_wrap=True)


class Fitting(ProgressColumn):
    """What is at work, in the room that `others`, in cells, and a short bar leave; its middle gives way.

    `tasks` gives all that are shown together: no two of them look alike.
    """

    def __init__(
        self, console: Console, others: int, tasks: Callable[[], Sequence[Task]] | None = None
    ) -> None:
        super().__init__(Column(no_wrap=True))
        self._console, self._tasks = console, tasks
        self._others = others + (0 if console.width < NARROW else 10)

    def render(self, task: Task) -> Text:
        names = [it.description for it in ([task] if self._tasks is None else self._tasks())]
        short = shorten(names, max(8, self._console.width - self._others)) or names
        return Text(short[names.index(task.description)])


class ProgressBar:
    """Draws on `console` while used as a context manager, if that is a terminal."""

    def __init__(self, console: Console) -> None:
        narrow = console.width < NARROW
        self._bar = Bar(
            Fitting(console, 16 if narrow else 31),
            *(() if narrow else (BarColumn(bar_width=None),)),
            TextColumn("{task.percentage:>3.0f} %"),
            *(() if narrow else (TextColumn("{task.fields[speed]}"),)),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=not watched(console),
            transient=True,
            expand=True,
        )
        self._task: TaskID | None = None
        self._read = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def compiling(self, number: int, total: int, what: str) -> None:
        if number == 1:
            say_compiling(self._bar.console)
            self._task = self._bar.add_task("", total=total, speed="")
        if self._task is not None:
            said = f"compiling kernels: {number} of {total} ({printable(what)})"
            self._bar.update(self._task, description=said, completed=number - 1)

    def start(self, weights: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        # Time goes with weights, not bytes: a copied tensor is quick, but so is it small.
        self._task = self._bar.add_task("", total=weights, speed="")

    def tensor(self, tensor: TensorInfo, types: tuple[str, ...]) -> None:
        if self._task is not None:
            becomes = f" → {', '.join(types)}" if types else ""
            self._bar.update(self._task, description=f"{printable(tensor.name)}{becomes}")

    def advance(self, weights: int, read: int, written: int) -> None:
        if self._task is None:
            return
        self._read += read
        task = self._bar.tasks[0]
        seconds = task.elapsed or 0
        speed = f"{self._read / seconds / 1e6:,.0f} MB/s" if seconds > 0 else ""
        self._bar.update(self._task, advance=weights, speed=speed)
