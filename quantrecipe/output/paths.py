"""check_paths, check_path: what is written is none of what is read, under any name, nor written twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from quantrecipe.errors import OutputError
from quantrecipe.output.journal import journal_path
from quantrecipe.output.partfile import part_path
from quantrecipe.plan.plan import Plan

__all__ = ["check_path", "check_paths"]


def check_paths(paths: Sequence[Path], plans: Iterable[Plan], reuse: Path | None) -> None:
    """OutputError if an output, or what it is written through (the part, the journal), is an input or another output.

    The older output that is reused may be replaced: by then it has been read.
    """
    seen: set[Path] = set()
    for path in paths:
        for name in (path, part_path(path), journal_path(path)):
            place = name.parent.resolve() / name.name
            if place in seen:
                raise OutputError(f"{name} would be written twice", "give the recipes different names")
            seen.add(place)
    inputs = list(_inputs(plans))
    for path in paths:
        check_path(path, inputs)
        check_path(journal_path(path), inputs)
        check_path(part_path(path), inputs + ([(reuse, "the file that is reused")] if reuse else []))


def _inputs(plans: Iterable[Plan]) -> Iterator[tuple[Path, str]]:
    """Every file that the plans come from, and what it is."""
    for plan in plans:
        yield from ((path, "a file of the model") for path in plan.model.files)
        yield Path(plan.recipe_file), "the recipe"
        if plan.importance is not None:
            yield plan.importance.path, "the importance matrix"


def check_path(path: Path, inputs: Iterable[tuple[Path, str]]) -> None:
    """OutputError if an output is one of the inputs, of which each says what it is."""
    for other, what in inputs:
        try:
            same = path.samefile(other)
        except OSError:  # one of them doesn't exist
            continue
        if same:
            raise OutputError(
                f"{path} is {what}, and would be written over", "name another file with -o FILE"
            )
