"""The progress bar of `apply`: tensor, share done, MB/s of source, time left. Silent where nobody watches."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from quantrecipe import __version__
from quantrecipe.cli.errors import printable
from quantrecipe.core.cache import kernel_folder
from quantrecipe.tensor import TensorInfo

__all__ = ["ProgressBar", "say_compiling"]


def say_compiling(console: Console) -> None:
    """Once, before the first kernel is compiled, where there is no terminal to draw a bar on."""
    if not console.is_terminal:
        kept = "(only once on each machine)"
        if kernel_folder(__version__) is None:
            kept = "(at each run: there is no folder to keep them in; set QUANTRECIPE_CACHE_DIR to one of your own)"
        console.print(f"compiling kernels {kept}", soft_wrap=True)


class ProgressBar:
    """Draws on `console` while used as a context manager, if that is a terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
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
