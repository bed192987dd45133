"""Progress bars: what is at work, how far it is, and the time that is left. Silent where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from quantrecipe.cli.apply_progress import say_compiling, say_kept, say_resumed, say_started_over, say_told
from quantrecipe.cli.context import watched
from quantrecipe.cli.errors import print_note, printable
from quantrecipe.cli.tables import shorten
from quantrecipe.cli.units import bytes_text
from quantrecipe.errors import Problem
from quantrecipe.tensor import TensorInfo

__all__ = ["ApplyBar", "CalibrationBar", "EvalBar", "HashBar", "MeasureBar", "SpeedBar"]

NARROW = 60
"""Columns below which only what is at work, how far it is, and the time that is left are shown."""


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


class WatchedBar:
    """A progress bar that is drawn while it is used as a context manager, if somebody watches, and leaves nothing."""

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        self._bar = Progress(
            *columns, console=console, disable=not watched(console), transient=True, expand=True
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _wide_bar(console: Console) -> tuple[ProgressColumn, ...]:
    return () if console.width < NARROW else (BarColumn(bar_width=None),)


def _share() -> ProgressColumn:
    return TextColumn("{task.percentage:>3.0f} %")


def _time_left() -> ProgressColumn:
    """A new one for each bar: it remembers what it showed last of each task, by numbers that every bar begins anew."""
    return TimeRemainingColumn(compact=True, elapsed_when_finished=True)


def _with_speed(console: Console) -> tuple[ProgressColumn, ...]:
    """What is at work, the share done, how fast it is (each task has a `speed`), and the time left."""
    narrow = console.width < NARROW
    speed = () if narrow else (TextColumn("{task.fields[speed]}"),)
    what = Fitting(console, 16 if narrow else 33)
    return what, *_wide_bar(console), _share(), *speed, _time_left()


class ApplyBar(WatchedBar):
    """The bar of `apply`: the tensor, the share done, the bytes of the source in each second, the time left.

    For who watches: see `apply_progress`.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console, *_with_speed(console))
        self._task: TaskID | None = None
        self._read = 0

    def compiling(self, number: int, total: int, what: str) -> None:
        if number == 1:
            self._task = self._bar.add_task("", total=total, speed="")
        if self._task is not None:
            said = f"compiling kernels: {number} of {total} ({printable(what)})"
            self._bar.update(self._task, description=said, completed=number - 1)

    def resumed(self, part: Path, share: float) -> None:
        say_resumed(self._bar.console, part, share)

    def started_over(self, part: Path, why: str) -> None:
        say_started_over(self._bar.console, part, why)

    def kept(self, part: Path, share: float) -> None:
        self._bar.stop()
        say_kept(self._bar.console, part, share)

    def told(self, what: str) -> None:
        say_told(self._bar.console, what)

    def stop(self) -> None:
        """Draw it no more: somebody is to be asked."""
        self._bar.stop()

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
        speed = f"{bytes_text(self._read / seconds)}/s" if seconds > 0 else ""
        self._bar.update(self._task, advance=weights, speed=speed)


class MeasureBar(WatchedBar):
    """The bar of `sensitivity`: its stage, the share done, the time left, what is at work."""

    def __init__(self, console: Console) -> None:
        stage = TextColumn("{task.fields[stage]}")
        super().__init__(console, stage, *_wide_bar(console), _share(), _time_left(), Fitting(console, 24))
        self._task: TaskID | None = None
        self._what = ""

    def stage(self, what: str) -> None:
        from quantrecipe.measure.progress import COMPILING

        if what == COMPILING and not watched(self._bar.console):
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

    def note(self, what: str) -> None:
        print_note(self._bar.console, Problem(what=what))

    def _update(self, description: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, description=description)


class EvalBar(WatchedBar):
    """The bars of `eval`: for each model that is run, its chunks or answers that are done, and the time left."""

    def __init__(self, console: Console) -> None:
        narrow = console.width < NARROW
        what = Fitting(console, 20 if narrow else 29, lambda: self._bar.tasks)
        units = () if narrow else (TextColumn("{task.fields[unit]}"),)
        super().__init__(console, what, *_wide_bar(console), MofNCompleteColumn(), *units, _time_left())

    def task(self, what: str, unit: str = "chunks") -> Callable[[int, int], None]:
        """A line for something that is run; what it gives is told (chunks done, chunks in all), or of another unit."""
        task = self._bar.add_task(printable(what), total=None, unit=unit)
        return lambda done, total: self._bar.update(task, completed=done, total=total)


class CalibrationBar(WatchedBar):
    """The bar of `imatrix compute`: tokens that were read, how many in a second, the time left, and the last change.

    `imatrix self` has it, too, for tokens that it writes.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console, *_with_speed(console))
        self._task: TaskID | None = None
        self._before = 0

    def say(self, what: str) -> None:
        """What is done now, of which no share is known."""
        self._task = (
            self._bar.add_task(printable(what), total=None, speed="") if self._task is None else self._task
        )
        self._bar.update(self._task, description=printable(what))

    def start(self, tokens: int, what: str = "reading") -> None:
        """How many tokens there are to be, and what is done with them."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=tokens, speed="")
        self._before = 0

    def resumed(self, tokens: int) -> None:
        """How many were read by a run before this one."""
        self._before = tokens
        self._update(completed=tokens)

    def read(self, tokens: int) -> None:
        """How many were read by now."""
        if self._task is None:
            return
        seconds = next(task for task in self._bar.tasks if task.id == self._task).elapsed or 0
        speed = f"{(tokens - self._before) / seconds:,.0f} tokens/s" if seconds > 0 else ""
        self._update(completed=tokens, speed=speed)

    def changed(self, share: float) -> None:
        """How much the last tokens changed the matrices."""
        self._update(description=f"reading (last change {share:.2%})")

    def _update(self, **fields: object) -> None:
        if self._task is not None:
            self._bar.update(self._task, **fields)  # type: ignore[arg-type]  # as rich has them


class HashBar(WatchedBar):
    """The bar of files that are hashed: the share of the bytes, how many in each second, and the time left."""

    def __init__(self, console: Console, what: str = "hashing") -> None:
        super().__init__(console, *_with_speed(console))
        self._what = what
        self._task: TaskID | None = None

    def start(self, nbytes: int) -> None:
        """So many bytes are to be read."""
        self._task = self._bar.add_task(self._what, total=nbytes, speed="")

    def read(self, nbytes: int) -> None:
        """So many more were; several threads may tell it."""
        if self._task is None:
            return
        task = next(task for task in self._bar.tasks if task.id == self._task)
        done = task.completed + nbytes
        speed = f"{bytes_text(done / task.elapsed)}/s" if task.elapsed else ""
        self._bar.update(self._task, advance=nbytes, speed=speed)


class SpeedBar(WatchedBar):
    """The bar of `speed`: which mix is timed, and how much of the time that was allowed is over."""

    def __init__(self, console: Console, seconds: float) -> None:
        narrow = console.width < NARROW
        super().__init__(
            console, Fitting(console, 16 if narrow else 24), *_wide_bar(console), _share(), _time_left()
        )
        self._seconds = seconds
        self._begin = monotonic()
        self._task: TaskID | None = None

    def timing(self, number: int, total: int, what: str) -> None:
        """A mix is timed next, and so many there are in a round."""
        if self._task is None:
            self._task = self._bar.add_task("", total=self._seconds)
        over = min(self._seconds, monotonic() - self._begin)
        self._bar.update(self._task, description=f"{what} ({number} of {total})", completed=over)
