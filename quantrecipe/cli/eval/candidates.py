"""What `eval` finds out about each file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from quantrecipe.api import FormatSpec
from quantrecipe.cli.model_contents import read_contents
from quantrecipe.cli.progress import EvalBar
from quantrecipe.engine import RunOptions
from quantrecipe.engine.session import existing_gguf
from quantrecipe.evaluate import Evaluation, Positions, Reference, difference, score, summarise
from quantrecipe.plain_data import fields_of, rounded_bits

__all__ = ["Candidate", "Sized", "evaluate_files", "sizes_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A file, and its figures.

    nbytes: of all its shards
    bits_per_weight: of the tensors
    all:    over all texts together
    texts:  over each, by its name
    change: relative change of the mean KL divergence from the first file, and its standard error; None for the first
    """

    path: Path
    nbytes: int
    bits_per_weight: float
    all: Evaluation
    texts: Mapping[str, Evaluation]
    change: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        change, error = self.change or (None, None)
        return {
            "file": self.path,
            "nbytes": self.nbytes,
            "bits_per_weight": rounded_bits(self.bits_per_weight),
            "kld_change": change,
            "kld_change_error": error,
            **fields_of(self, "all", "texts"),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Sized:
    """A file to evaluate, and what its header says of its size."""

    path: Path
    nbytes: int
    bits_per_weight: float


def sizes_of(files: Sequence[Path], specs: Callable[[], Mapping[int, FormatSpec]]) -> list[Sized]:
    """Look into the headers of all files, so that what is wrong shows before the reference is made."""
    found = []
    for path in map(existing_gguf, files):
        nbytes, bits = _size(path, specs)
        found.append(Sized(path=path, nbytes=nbytes, bits_per_weight=bits))
    return found


def evaluate_files(
    files: Sequence[Sized], reference: Reference, *, progress: EvalBar, **running: Unpack[RunOptions]
) -> list[Candidate]:
    """Run each file over the reference's texts."""
    results: list[Candidate] = []
    first: Positions | None = None
    for file in files:
        positions = score(file.path, reference, progress=progress.task(file.path.name), **running)
        candidate = Candidate(
            path=file.path,
            nbytes=file.nbytes,
            bits_per_weight=file.bits_per_weight,
            all=summarise(positions),
            texts={name: summarise(part) for name, part in reference.split(positions).items()},
            change=None if first is None else _change(positions, first),
        )
        first = positions if first is None else first
        results.append(candidate)
    return results


def _change(positions: Positions, first: Positions) -> tuple[float, float]:
    mean, error = difference(positions, first)
    before = float(first.divergence.mean())
    return (mean / before, error / abs(before)) if before else (0.0, 0.0)


def _size(path: Path, specs: Callable[[], Mapping[int, FormatSpec]]) -> tuple[int, float]:
    contents = read_contents(path, specs)
    weights = sum(line.weights for line in contents.tensors)
    tensors = sum(line.nbytes for line in contents.tensors)
    return sum(contents.files.values()), 8 * tensors / weights if weights else 0.0
