"""What `eval` finds out about each file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from quantrecipe.api import FormatSpec
from quantrecipe.cli.eval.subjects import Subject
from quantrecipe.cli.model_contents import read_contents
from quantrecipe.cli.progress import EvalBar
from quantrecipe.engine import RunOptions, Session
from quantrecipe.engine.session import existing_gguf
from quantrecipe.evaluate import (
    Drawn,
    Evaluation,
    Intervals,
    Pair,
    Reference,
    blocks_of,
    compare_files,
    draw,
    intervals_of,
    score,
    summarise,
)
from quantrecipe.evaluate.requests import opened
from quantrecipe.plain_data import fields_of, rounded_bits

__all__ = ["Candidate", "Sized", "evaluate_files", "size_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A file, and its figures.

    name:    what it is called in tables
    path:    None for a file that was made, and is removed at the end
    recipe, imatrix: what it was made with; None for a file that there was
    nbytes: of all its shards
    bits_per_weight: of the tensors
    all:    over all texts together
    texts:  over each, by its name
    intervals: of the most important figures, where they lie on other texts of the same kind
    beside: the file beside the first one; None for the first
    """

    name: str
    path: Path | None
    recipe: str | None
    imatrix: Path | None
    nbytes: int
    bits_per_weight: float
    all: Evaluation
    texts: Mapping[str, Evaluation]
    intervals: Intervals
    beside: Pair | None

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "file": self.path,
            **fields_of(self, "name", "recipe", "imatrix", "nbytes"),
            "bits_per_weight": rounded_bits(self.bits_per_weight),
            **fields_of(self, "all", "texts", "intervals", "beside"),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Sized:
    """What is evaluated, and its size, from its header or its plan."""

    subject: Subject
    nbytes: int
    bits_per_weight: float

    def at(self, path: Path, *, kept: bool) -> Sized:
        """The same, made at this path."""
        return replace(self, subject=replace(self.subject, path=path, kept=kept))


def size_of(subject: Subject, specs: Callable[[], Mapping[int, FormatSpec]]) -> Sized:
    """Look into the header of a file, so that what is wrong with it shows before anything is run."""
    if (plan := subject.plan) is not None:
        return Sized(subject=subject, nbytes=plan.nbytes, bits_per_weight=plan.bits_per_weight)
    contents = read_contents(existing_gguf(subject.path), specs)
    weights = sum(line.weights for line in contents.tensors)
    tensors = sum(line.nbytes for line in contents.tensors)
    return Sized(
        subject=subject,
        nbytes=sum(contents.files.values()),
        bits_per_weight=8 * tensors / weights if weights else 0.0,
    )


def evaluate_files(
    files: Sequence[Sized],
    reference: Reference,
    *,
    progress: EvalBar,
    also: Callable[[str, Session], None] | None = None,
    **running: Unpack[RunOptions],
) -> list[Candidate]:
    """Run each file over the reference's texts. also: what else is done with it while it is open, with its name."""
    results: list[Candidate] = []
    first: tuple[Evaluation, Drawn] | None = None
    blocks = blocks_of(reference)
    for file in files:
        it = file.subject
        with opened(it.path, **running) as session:
            positions = score(session, reference, progress=progress.task(it.name))
            if also is not None:
                also(it.name, session)
        evaluation, drawn = summarise(positions), draw(positions, blocks)
        results.append(
            Candidate(
                name=it.name,
                path=it.path if it.kept else None,
                recipe=it.recipe,
                imatrix=it.imatrix,
                nbytes=file.nbytes,
                bits_per_weight=file.bits_per_weight,
                all=evaluation,
                texts={name: summarise(part) for name, part in reference.split(positions).items()},
                intervals=intervals_of(positions, evaluation, drawn, blocks),
                beside=None
                if first is None
                else compare_files((evaluation, drawn), first, blocks, reference.noise),
            )
        )
        first = (evaluation, drawn) if first is None else first
    return results
