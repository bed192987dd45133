"""Resume: the journals of a run's outputs: what earlier runs left is found at the start, what stays decided at the end.

A run that is killed leaves parts and journals. One that ends by itself removes the journals, once the files have their
names. Of one that fails in between:

    full disk, a file that can't be read, too little memory     stays, and the error says so
    what the same command would meet again (NaN, …)             is removed
    SIGTERM, with which schedulers end a job                    stays
    Ctrl-C                                                      is asked for; what was there before the run stays
    the disk has lost what was written (fsync fails)            is removed: nothing in the part can be relied on
    the model was damaged on its way from the hub, or changed   is removed, too
    somebody has moved the part, or removed it                  is left alone, wherever it is
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from quantrecipe.errors import FormatError, ImportanceError, PlanError, Problem, QuantrecipeError
from quantrecipe.output.journal import Journal, journal_path
from quantrecipe.output.kept import Entry
from quantrecipe.output.partfile import PartFile, part_path
from quantrecipe.output.progress import Progress
from quantrecipe.output.run_key import difference, run_key
from quantrecipe.output.sync_often import SyncOften
from quantrecipe.output.write_errors import write_error
from quantrecipe.plan.plan import Plan
from quantrecipe.whole_file import sync_folder

__all__ = ["MET_AGAIN", "Keep", "Resume", "forget"]

Keep = Callable[[Path, float], bool]
"""(the part, the share of the work that is in it): whether it is to stay after Ctrl-C."""

MET_AGAIN = (FormatError, ImportanceError, PlanError)
"""Errors that the same command would meet again."""


class Resume:
    """To be used within the parts' own contexts, so that what it keeps isn't removed by them.

    before: an earlier run had left something
    """

    def __init__(
        self,
        outputs: Sequence[tuple[Plan, Sequence[PartFile]]],
        *,
        nan: str,
        progress: Progress,
        keep: Keep | None = None,
    ) -> None:
        """keep: asked after Ctrl-C, where no earlier run had left anything.

        OutputError where a journal can't be written, or is damaged.
        """
        self._outputs = outputs
        self._progress = progress
        self._part = outputs[0][1][0].part
        self._keep = keep
        self._void = False
        self.journals: list[Journal] = []
        try:
            for plan, parts in outputs:
                self.journals.append(_opened(plan, parts, nan))
        except BaseException:
            for journal in self.journals:
                journal.close()
            for part in (part for _, parts in outputs for part in parts if part.left):
                part.keep()
            raise
        self.before = not all(journal.empty for journal in self.journals)
        for (_, parts), journal in zip(outputs, self.journals, strict=True):
            if journal.other:
                progress.started_over(parts[0].part, journal.other)
        if self.before:
            progress.resumed(self._part, self.share)
        self._sync = SyncOften(
            [(parts, journal) for (_, parts), journal in zip(outputs, self.journals, strict=True)]
        )

    @property
    def share(self) -> float:
        """Of the weights of all outputs, those that the journals say are in the parts."""
        total = sum(plan.size for plan, _ in self._outputs)
        found = 0
        for (plan, _), journal in zip(self._outputs, self.journals, strict=True):
            assignments = plan.assignments
            found += sum(assignments[number].tensor.size for number in journal.noted)
            for number, rows in journal.noted_rows.items():
                found += rows * assignments[number].tensor.cols
        return found / max(1, total)

    def entry(self, output: int, number: int, part: PartFile) -> Entry:
        """A tensor of an output, by its number in the plan."""
        return Entry(journal=self.journals[output], number=number, part=part)

    def void(self) -> None:
        """What was made can't be relied on, so that nothing of it stays."""
        self._void = True

    def written(self) -> None:
        """All is written, and about to get its names: nobody else is to sync the parts any more."""
        self._sync.stop()

    def __enter__(self) -> Self:
        self._sync.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sync.stop()
        stays = error is not None and self._stays(error)
        if stays:
            for part in (part for _, parts in self._outputs for part in parts if not part.settled):
                part.keep()
        for journal in self.journals:
            if stays:
                journal.close()
            else:
                journal.remove()
        if stays and isinstance(error, QuantrecipeError):
            self._say(error)
        elif stays:
            self._progress.kept(self._part, self.share)

    def _stays(self, error: BaseException) -> bool:
        parts = [part for _, parts in self._outputs for part in parts]
        if (
            self._void
            or any(part.failed is not None or part.gone is not None for part in parts)
            or all(it.empty for it in self.journals)
        ):
            return False
        if all(part.settled for part in parts):  # complete; they are kept where a name couldn't be had
            return all(part.is_at(part.part) for part in parts)
        if isinstance(error, KeyboardInterrupt):
            return self.before or (self._keep is not None and self._keep(self._part, self.share))
        return not isinstance(error, MET_AGAIN)

    def _say(self, error: QuantrecipeError) -> None:
        """Tell with the error what is kept, unless it says so itself."""
        if any(str(self._part) in problem.what + problem.remedy for problem in error.problems):
            return
        said = Problem(
            what=f"{self.share:.0%} of the work is kept in {self._part}",
            remedy="the same command goes on with it; remove it and its journal if you don't want that",
        )
        error.problems = (*error.problems, said)
        error.args = ("\n".join(map(str, error.problems)),)


def forget(path: Path) -> None:
    """Remove a journal that has no part any more: its run was killed when the file had its name already."""
    if not part_path(path).exists():
        with suppress(OSError):  # where that can't be done, nothing can be written either
            journal_path(path).unlink()


def _opened(plan: Plan, parts: Sequence[PartFile], nan: str) -> Journal:
    """The journal of an output. Parts that it says nothing of are emptied."""
    path = journal_path(parts[0].path)
    try:
        journal = Journal(path, run_key(plan, nan=nan), difference)
        if not journal.empty and not all(part.left for part in parts):
            journal.other = "other parts, of which some are gone or have another length"
            journal.restart()
        if journal.empty:
            for part in parts:
                if part.left:  # else it is
                    part.empty()
        for folder in {part.path.parent: None for part in parts}:
            sync_folder(folder)
    except OSError as error:
        raise write_error(error, path) from error
    return journal
